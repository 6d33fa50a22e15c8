"""Offsets beyond 32 bits: tensors of more than 2^31 elements, in memory that nobody touches but for a few cells."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import triton.language as tl
from support.comparing import call
from support.samples import SAMPLES
from torch import Tensor
from triton.runtime import interpreter

from zfkernels import ops
from zfkernels.ops import registered, use_backend
from zfkernels.windows import Layout, Windows

WINDOWED = [
    op for op, entry in registered().items() if op.startswith(("window_", "occluded_")) and "triton" in entry.variants
]
LARGE = {"values_ptr", "frames_ptr", "images_ptr", "out_ptr", "a_ptr", "b_ptr", "c_ptr"}
HEIGHT, WIDTH = 40_000, 30_000
HALF = torch.float16


@pytest.fixture
def _in_place(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The interpreter checks sums and products for overflow, and does not copy the arguments back onto themselves."""
    monkeypatch.setattr(interpreter.GridExecutor, "_restore_args_dev", lambda *args: None)
    options = interpreter.interpreter_builder.options
    interpreter.interpreter_builder.options = dataclasses.replace(options, debug=True)
    yield
    interpreter.interpreter_builder.options = options


def untouched(*shape: int, dtype: torch.dtype = HALF) -> Tensor:
    try:
        return torch.empty(shape, dtype=dtype)
    except RuntimeError as error:
        pytest.skip(f"no room for it: {error}")


def boxes(*box: int) -> Tensor:
    return torch.tensor([box], dtype=torch.int32)


APART: dict[str, Callable[[Windows], Any]] = {
    "window_conv2d": lambda w: ops.window_conv2d(w, None, torch.ones(3, 2, 2, 2).to(HALF)),
    "depthwise": lambda w: ops.window_conv2d(w, None, torch.ones(2, 1, 2, 2).to(HALF), groups=2),
    "window_max_pool2d": lambda w: ops.window_max_pool2d(w, None, 2),
    "window_avg_pool2d": lambda w: ops.window_avg_pool2d(w, None, 2, 1),
    "window_gather": lambda w: ops.window_gather([w, w], None, boxes(1, 0, 2, 3)),
    "window_reduce": lambda w: ops.window_reduce(w, None, "max"),
    "stage": lambda w: ops.unpool_relu_conv_transpose2d(w, None, torch.ones(2, 3, 2, 2).to(HALF)),
}


@pytest.mark.usefixtures("_in_place")
@pytest.mark.parametrize("name", APART)
def test_cells_that_lie_far_apart(name: str) -> None:
    values = untouched(8 * 2**28 + 2).as_strided((9, 2), (2**28, 1))
    values.copy_(torch.arange(18).view(9, 2))
    windows = Windows(values, boxes(0, 0, 3, 3), torch.tensor([0, 9]), torch.tensor([0]), (3, 3))
    found = run(APART[name], windows, "triton")
    assert torch.equal(found, run(APART[name], dataclasses.replace(windows, values=values.clone()), "reference"))


def run(function: Callable[..., Any], *args: Any) -> Tensor:
    *rest, backend = args
    with use_backend(backend):
        result = function(*rest)
    return result.values if isinstance(result, Windows) else result


def corner(height: int, width: int) -> Tensor:
    return boxes(height - 2, width - 2, 2, 2)


# By op: the result for the last two rows and columns of the second frame, and what it is of that corner [2, 2].
FRAMED: dict[str, tuple[Callable[[Windows, Tensor], Any], Callable[[Tensor], Tensor]]] = {
    "window_conv2d": (
        lambda w, f: ops.window_conv2d(
            w, f, torch.full((1, 1, 1, 1), 2.0).to(HALF), out_boxes=corner(HEIGHT, WIDTH)
        ),
        lambda cells: 2 * cells,
    ),
    "window_max_pool2d": (
        lambda w, f: ops.window_max_pool2d(w, f, 2, out_boxes=boxes(HEIGHT // 2 - 1, WIDTH // 2 - 1, 1, 1)),
        lambda cells: cells.max(),
    ),
    "window_avg_pool2d": (
        lambda w, f: ops.window_avg_pool2d(w, f, 2, out_boxes=boxes(HEIGHT // 2 - 1, WIDTH // 2 - 1, 1, 1)),
        lambda cells: cells.mean(),
    ),
    "window_gather": (lambda w, f: ops.window_gather([w], f, corner(HEIGHT, WIDTH)), lambda cells: cells),
    "stage": (
        lambda w, f: ops.unpool_relu_conv_transpose2d(
            w, None, torch.full((1, 1, 1, 1), 2.0).to(HALF), f, out_boxes=corner(HEIGHT, WIDTH)
        ),
        lambda cells: 2 * cells,
    ),
}  # fmt: skip


@pytest.mark.usefixtures("_in_place")
@pytest.mark.parametrize("name", FRAMED)
def test_the_last_cells_of_large_frames(name: str) -> None:
    frames = untouched(2, 1, HEIGHT, WIDTH)
    cells = torch.tensor([[5.0, 7.0], [2.0, 4.0]])
    frames[1, 0, -2:, -2:] = cells
    layout = Layout.of(boxes(0, 0, 1, 1), torch.tensor([1]), (HEIGHT, WIDTH))
    function, expected = FRAMED[name]
    found = run(function, layout.windows(torch.ones(1, 1, dtype=HALF)), frames, "triton")
    assert torch.equal(found.flatten().float(), expected(cells).flatten())


@pytest.mark.usefixtures("_in_place")
def test_the_last_cells_of_a_large_window() -> None:
    values = untouched(2 * HEIGHT * WIDTH, 1)
    values[-2:, 0] = torch.tensor([7.0, 5.0])
    windows = Windows(
        values, boxes(0, 0, 2 * HEIGHT, WIDTH), torch.tensor([0, len(values)]), torch.tensor([0]), (2 * HEIGHT, WIDTH)
    )

    def last() -> Windows:
        return ops.window_gather([windows], None, boxes(2 * HEIGHT - 1, WIDTH - 2, 1, 2))

    assert run(last, "triton").flatten().tolist() == [7.0, 5.0]


@pytest.mark.usefixtures("_in_place")
def test_the_last_pixels_of_large_images() -> None:
    images = untouched(2, 20_000, 15_000, 4).permute(0, 3, 1, 2)
    images[1, :, -1, -2:] = torch.tensor([[1.0, 9.0], [2.0, 9.0], [3.0, 9.0], [4.0, 9.0]])

    def hide() -> Windows:
        return ops.occluded_conv2d(
            images, torch.ones(1, 4, 1, 1).to(HALF), None, boxes(19_999, 14_999, 5, 5), fill=0.25,
            image=torch.tensor([1]), out_boxes=boxes(19_999, 14_998, 1, 2),
        )  # fmt: skip

    assert run(hide, "triton").flatten().tolist() == [10.0, 1.0]


@pytest.mark.parametrize("op", WINDOWED)
def test_offsets_into_what_may_be_large_have_64_bits(op: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where indices are said to be wide, the first offset that differs from lane to lane is."""
    module = sys.modules[registered()[op].variants["triton"].load().__module__]
    original, addptr = module.launch, interpreter.InterpreterBuilder.create_addptr
    names: dict[int, str] = {}
    found: set[tuple[str, Any]] = set()

    def launch(kernel: Any, grid: Any, like: Tensor, *args: Any, **options: Any) -> None:
        given = dict(zip(kernel.arg_names, args, strict=False))
        names.update({t.data_ptr(): name for name, t in given.items() if isinstance(t, Tensor) and t.numel()})
        original(kernel, grid, like, *args, **options)

    def create_addptr(self: Any, pointers: Any, offset: Any) -> Any:
        base = int(pointers.data.flat[0])
        if offset.data.size > 1 and (pointers.data == base).all() and names.get(base) in LARGE:
            found.add((names[base], offset.dtype.scalar))
        return addptr(self, pointers, offset)

    monkeypatch.setattr(module, "index_type", lambda *tensors: tl.int64)
    monkeypatch.setattr(module, "launch", launch)
    monkeypatch.setattr(interpreter.InterpreterBuilder, "create_addptr", create_addptr)
    call(op, SAMPLES[op][0].arguments(torch.float32), "triton")
    assert {dtype for _, dtype in found} == {tl.int64}, found
    assert len(found) >= 2

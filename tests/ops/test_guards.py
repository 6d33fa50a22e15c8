"""The registered ops refuse what would lead a kernel astray, whoever calls them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.samples import SAMPLES
from support.variants import flat_arguments
from torch import Tensor

from zfkernels import ops
from zfkernels.ops import _registry, window_reduce
from zfkernels.windows import Windows

pytestmark = pytest.mark.cpp

OPS = sorted(_registry.registered())
SLIDING = ("kernel_size", "stride", "padding", "dilation")


def overload(op: str) -> Any:
    return getattr(torch.ops.zfkernels, op).default


def plain(op: str) -> list[Any]:
    """Arguments that are right."""
    return list(flat_arguments(op, SAMPLES[op][0].arguments(torch.float32)))


def names(op: str) -> list[str]:
    return [argument.name for argument in overload(op)._schema.arguments if not argument.kwarg_only]


GEOMETRY = [
    (op, name)
    for op in OPS
    for name in names(op)
    if name.removeprefix("pool_") in SLIDING or name in ("groups", "overlap", "how")
]


@pytest.mark.parametrize(("op", "argument"), GEOMETRY)
def test_impossible_geometry(op: str, argument: str) -> None:
    arguments = plain(op)
    overload(op)(*arguments)
    kind, index = argument.removeprefix("pool_"), names(op).index(argument)
    known = {"padding": [[-1, 0]], "groups": [0], "overlap": ["any"], "how": ["mean"]}
    for wrong in known.get(kind, [[0, 0], [1, -1]]):
        arguments[index] = wrong
        with pytest.raises(ValueError, match=f"^{op}: expected {argument} "):
            overload(op)(*arguments)


@pytest.mark.parametrize("op", OPS)
def test_tensors_of_wrong_shapes_and_types(op: str) -> None:
    """Each tensor in turn: without its last row, without its last dimension, of another type."""
    right = plain(op)
    for index, (name, value) in enumerate(zip(names(op), right, strict=True)):
        if not isinstance(value, Tensor) or not value.numel():
            continue
        wrong = [value[..., None], value.to(torch.complex64)]
        if name not in ("values", "input", "images", "frames", "weight", "switches"):  # of any number of rows
            wrong.append(value[:-1])
        for tensor in wrong:
            arguments = [*right[:index], tensor, *right[index + 1 :]]
            with pytest.raises((ValueError, TypeError), match=f"^{op}: expected "):
                overload(op)(*arguments)


def test_switches_of_a_wrong_shape() -> None:
    values, weight = torch.randn(1, 3, 6, 6), torch.randn(3, 2, 3, 3)
    switches = torch.zeros(1, 1, 2, 2, dtype=torch.uint8)
    pool = ([2, 2], [2, 2], [0, 0], [1, 1])
    with pytest.raises(ValueError, match=r"expected switches' shape \(1, 3, 6, 6\), got \(1, 1, 2, 2\)"):
        torch.ops.zfkernels.max_unpool2d_with_switches(values, switches, *pool, [12, 12], "sum")
    with pytest.raises(ValueError, match=r"expected switches' shape \(1, 3, 6, 6\), got \(1, 1, 2, 2\)"):
        torch.ops.zfkernels.unpool_relu_conv_transpose2d(
            values,
            switches,
            weight,
            *pool,
            [12, 12],
            [1, 1],
            [0, 0],
            [1, 1],
            1,
            [14, 14],
            "sum",
            True,
        )
    with pytest.raises(ValueError, match="expected what the convolution makes of output_size"):
        torch.ops.zfkernels.unpool_relu_conv_transpose2d(
            values, None, weight, [1, 1], [1, 1], [0, 0], [1, 1], [6, 6], [1, 1], [0, 0], [1, 1], 1,
            [9, 9], "sum", True,
        )  # fmt: skip


@pytest.mark.parametrize("wrong", [35, -1, 36, 3])
@pytest.mark.parametrize("dilation", [1, 2])
def test_indices_outside_their_window(wrong: int, dilation: int) -> None:
    geometry = {"kernel_size": 2, "stride": 2, "dilation": dilation, "input_size": (6, 6)}
    switches = torch.tensor([0, 1, 2, 3] * 3, dtype=torch.uint8)[: 9 if dilation == 1 else 4]
    side = 3 if dilation == 1 else 2
    indices = ops.switches_to_indices(switches.view(1, 1, side, side), **geometry)
    assert torch.equal(ops.indices_to_switches(indices, **geometry).flatten(), switches)
    indices[0, 0, 0, 0] = wrong
    message = rf"expected indices inside their own pooling windows, got {wrong} at \[0, 0, 0, 0\]"
    with pytest.raises(ValueError, match=message):
        ops.indices_to_switches(indices, **geometry)


def test_a_dilated_window_does_not_read_the_cells_between() -> None:
    indices = torch.tensor([[[[1]]]])
    with pytest.raises(ValueError, match="inside their own pooling windows"):
        ops.indices_to_switches(indices, 2, 2, dilation=2, input_size=(3, 3))


def test_windows_of_images_that_are_not_there() -> None:
    crops, origins = torch.randn(2, 3, 2, 2), torch.zeros(2, 2, dtype=torch.int64)
    windows = Windows.of(crops, origins, torch.tensor([0, 5]), (4, 4))
    frames = torch.randn(5, 3, 4, 4)
    with pytest.raises(ValueError, match="expected image below 5, the number of frames, got 5"):
        windows.paste(frames)
    with pytest.raises(ValueError, match=r"expected windows\.image below 5, the number of frames, got 5"):
        window_reduce(windows, frames)
    with pytest.raises(ValueError, match=r"expected frames \('N', 3, 4, 4\), got \(5, 3, 4, 3\)"):
        windows.paste(frames[..., :3])

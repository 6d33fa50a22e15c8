"""What the ops on windows refuse, in which words; that a layout is taken without a look at its numbers."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from support.comparing import assert_refused, public
from support.sample import Arguments
from support.samples import SAMPLES
from support.variants import flat_arguments
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from zfkernels import ops
from zfkernels.ops import registered
from zfkernels.windows import Layout, Windows

WINDOW_OPS = ("window_conv2d", "window_max_pool2d", "window_avg_pool2d", "window_reduce")
OPS = sorted(op for op in SAMPLES if op.startswith(("window_", "occluded_")))


def windows(**changes: Any) -> Windows:
    """Three windows of 6, 0 and 1 cells with 4 channels in a frame (9, 8), or what the changes make of them."""
    fields: dict[str, Any] = {
        "values": torch.ones(7, 4),
        "boxes": torch.tensor([[0, 0, 2, 3], [1, 1, 0, 0], [8, 7, 1, 1]], dtype=torch.int32),
        "offsets": torch.tensor([0, 6, 6, 7]),
        "image": torch.tensor([0, 1, 1]),
        "frame": (9, 8),
    }
    return Windows(**(fields | changes))


def boxes(*rows: list[int]) -> Tensor:
    return torch.tensor(rows, dtype=torch.int32)


FRAMES = torch.ones(2, 4, 9, 8)
BASE: dict[str, Arguments] = {
    "window_conv2d": {"windows": windows(), "frames": FRAMES, "weight": torch.ones(6, 4, 3, 3)},
    "window_max_pool2d": {"windows": windows(), "frames": FRAMES, "kernel_size": 3},
    "window_avg_pool2d": {"windows": windows(), "frames": FRAMES, "kernel_size": 3},
    "window_reduce": {"windows": windows(), "frames": FRAMES, "how": "sum"},
    "window_gather": {"sources": [windows()], "frames": FRAMES,
                      "boxes": boxes([0, 0, 1, 1], [0, 0, 0, 0], [0, 0, 9, 8])},
    "occluded_conv2d": {"images": torch.ones(1, 4, 9, 8), "weight": torch.ones(6, 4, 3, 3), "bias": None,
                        "boxes": boxes([0, 0, 2, 3], [-1, 5, 2, 9])},
    "unpool_relu_conv_transpose2d": {"values": windows(), "switches": None, "weight": torch.ones(4, 6, 3, 3)},
}  # fmt: skip

# What every op says of the windows that it is given.
BAD_WINDOWS: list[tuple[Any, type, str]] = [
    (windows(values=torch.ones(7, 4).int()), TypeError,
     "{0}.values of dtype float16, bfloat16, float32, float64, got torch.int32"),
    (windows(values=torch.ones(7)), ValueError, "{0}.values of shape [cells, C], got (7,)"),
    (windows(boxes=torch.zeros(3, 4).long()), TypeError, "{0}.boxes of dtype int32, got torch.int64"),
    (windows(boxes=torch.zeros(2, 4).int()), ValueError, "the shape of {0}.boxes (3, 4), got (2, 4)"),
    (windows(offsets=torch.tensor([0, 6, 7])), ValueError, "the shape of {0}.offsets (4,), got (3,)"),
    (windows(offsets=torch.tensor([0, 6, 6, 7], device="meta")), ValueError,
     "{0}.offsets on the device of the values, cpu, got meta"),
    (windows(image=torch.tensor([0, 1, 1]).int()), TypeError, "{0}.image of dtype int64, got torch.int32"),
    (windows(frame=(9.0, 8)), TypeError, "{0}.frame an int or a pair of ints, got (9.0, 8)"),
    (windows(boxes=boxes([0, 0, 2, 3], [1, 1, 0, 0], [9, 7, 1, 1])), ValueError,
     "{0}.boxes inside the frame (9, 8), and {0}.offsets that fit them, got [9, 7, 1, 1]"),
    (windows(offsets=torch.tensor([0, 5, 6, 7])), ValueError,
     "{0}.boxes inside the frame (9, 8), and {0}.offsets that fit them, got [0, 5, 6, 7]"),
    (windows(offsets=torch.tensor([1, 7, 7, 8])), ValueError,
     "{0}.boxes inside the frame (9, 8), and {0}.offsets that fit them, got [1, 7, 7, 8]"),
    (windows(values=torch.ones(8, 4)), ValueError, "{0} of 7 cells, as its offsets say, got 8"),
    (windows(image=torch.tensor([0, -1, 1])), ValueError, "{0}.image at least 0, got -1"),
]  # fmt: skip


@pytest.mark.parametrize("op", [op for op in BASE if op != "occluded_conv2d"])
@pytest.mark.parametrize(("given", "error", "message"), BAD_WINDOWS)
def test_bad_windows(op: str, given: Any, error: type, message: str) -> None:
    argument = next(iter(BASE[op]))
    changes = {argument: [given]} if op == "window_gather" else {argument: given}
    name = "sources[0]" if op == "window_gather" else argument
    assert_refused(getattr(ops, op), BASE[op] | changes, error, message.format(name))


@pytest.mark.parametrize("op", [*WINDOW_OPS, "window_gather"])
def test_windows_of_another_type(op: str) -> None:
    argument, given = next(iter(BASE[op])), torch.ones(5, 4, 2, 3)
    changes = {argument: [given]} if op == "window_gather" else {argument: given}
    name = "sources[0]" if op == "window_gather" else argument
    assert_refused(getattr(ops, op), BASE[op] | changes, TypeError, f"{name} a zfkernels.Windows, got Tensor")


LAYOUT = Layout.of(boxes([0, 0, 2, 3], [1, 1, 0, 0], [6, 5, 1, 1]), torch.tensor([0, 1, 1]), (7, 6))
BAD: list[tuple[str, Arguments, type, str]] = [
    ("window_conv2d", {"frames": torch.ones(2, 4, 9, 9)}, ValueError,
     "frames' channels and size (4, 9, 8), got (4, 9, 9)"),
    ("window_conv2d", {"frames": FRAMES[:1]}, ValueError, "windows.image below 1, the number of frames, got 1"),
    ("window_conv2d", {"frames": FRAMES.double()}, TypeError,
     "frames of the dtype of windows, torch.float32, got torch.float64"),
    ("window_conv2d", {"weight": torch.ones(6, 2, 3, 3)}, ValueError,
     "weight's second dimension, channels / groups, 4, got 2"),
    ("window_conv2d", {"stride": 0}, ValueError, "stride at least 1, got 0"),
    ("window_conv2d", {"padding": -1}, ValueError, "padding at least 0, got -1"),
    ("window_conv2d", {"relu": 1}, TypeError, "relu a bool, got 1"),
    ("window_conv2d", {"out_boxes": [1, 2]}, TypeError, "out_boxes a tensor [P, 4], got list"),
    ("window_conv2d", {"out_boxes": boxes([0, 0, 1, 1])}, ValueError, "the shape of out_boxes (3, 4), got (1, 4)"),
    ("window_conv2d", {"out_boxes": boxes([0, 0, 1, 1], [0, 0, 8, 1], [0, 0, 0, 0])}, ValueError,
     "out_boxes inside the frame (7, 6), got [0, 0, 8, 1]"),
    ("window_conv2d", {"out_boxes": dataclasses.replace(LAYOUT, frame=(8, 6))}, ValueError,
     "out_boxes.frame (7, 6), got (8, 6)"),
    ("window_conv2d", {"out_boxes": dataclasses.replace(LAYOUT, cells=6)}, ValueError,
     "the shape of out_boxes.owner (6,), got (7,)"),
    ("window_conv2d", {"out_boxes": dataclasses.replace(LAYOUT, offsets=torch.tensor([0, 6, 7, 7]), images=None)},
     ValueError, "out_boxes.boxes inside the frame (7, 6), and out_boxes.offsets that fit them, got [0, 6, 7, 7]"),
    ("window_conv2d", {"out_boxes": dataclasses.replace(LAYOUT, owner=LAYOUT.owner.flip(0), images=None)}, ValueError,
     "out_boxes.owner to fit out_boxes.offsets, as Layout.of makes it"),
    ("window_max_pool2d", {"kernel_size": 10}, ValueError,
     "windows.frame large enough for one output of Sliding(kernel=(10, 10), stride=(10, 10), padding=(0, 0),"
     " dilation=(1, 1)), got (9, 8)"),
    ("window_max_pool2d", {"padding": 2}, ValueError, "padding at most half of the kernel (3, 3), got (2, 2)"),
    ("window_max_pool2d", {"ceil_mode": None}, TypeError, "ceil_mode a bool, got None"),
    ("window_avg_pool2d", {"divisor_override": 0}, ValueError, "divisor_override at least 1, got 0"),
    ("window_avg_pool2d", {"divisor_override": 1.5}, TypeError, "divisor_override an int, got 1.5"),
    ("window_avg_pool2d", {"count_include_pad": 0}, TypeError, "count_include_pad a bool, got 0"),
    ("window_reduce", {"how": "mean"}, ValueError, "how one of ('sum', 'max'), got 'mean'"),
    ("window_gather", {"sources": windows()}, TypeError, "sources a sequence of zfkernels.Windows, got Windows"),
    ("window_gather", {"sources": [], "frames": None}, ValueError, "sources or frames, got neither"),
    ("window_gather", {"sources": []}, ValueError,
     "boxes a Layout, which has images, with no sources, got a tensor"),
    ("window_gather", {"sources": [windows(), windows(frame=(9, 9))]}, ValueError,
     "sources[1].frame (9, 8), got (9, 9)"),
    ("window_gather", {"sources": [windows(), windows(values=torch.ones(7, 3))]}, ValueError,
     "sources[1]'s channels 4, got 3"),
    ("window_gather", {"boxes": boxes([0, 0, 1, 1])}, ValueError,
     "sources[0] with a window for each of the boxes, 1, got 3"),
    ("window_gather", {"sources": [(windows(), torch.tensor([0, 1, 3]))]}, ValueError,
     "sources[0][1] in [0, 3), got 0 to 3"),
    ("window_gather", {"sources": [(windows(), torch.tensor([0, -1, 1]))]}, ValueError,
     "sources[0][1] in [0, 3), got -1 to 1"),
    ("window_gather", {"sources": [(windows(), torch.tensor([0]))]}, ValueError,
     "the shape of sources[0][1] (3,), got (1,)"),
    ("window_gather", {"boxes": boxes([0, 0, 1, 1], [0, 8, 1, 1], [0, 0, 1, 1])}, ValueError,
     "boxes inside the frame (9, 8), got [0, 8, 1, 1]"),
    ("occluded_conv2d", {"boxes": torch.zeros(2, 2).int()}, ValueError, "the shape of boxes (2, 4), got (2, 2)"),
    ("occluded_conv2d", {"boxes": torch.zeros(2, 4)}, TypeError, "boxes of dtype int32, int64, got torch.float32"),
    ("occluded_conv2d", {"image": torch.tensor([0, 1])}, ValueError, "image below 1, the number of images, got 1"),
    ("occluded_conv2d", {"image": torch.tensor([0, -1])}, ValueError, "image at least 0, got -1"),
    ("occluded_conv2d", {"images": FRAMES}, ValueError, "image [P] with 2 images, got None"),
    ("occluded_conv2d", {"fill": "grey"}, TypeError, "fill a number, a tensor or zfkernels.Windows, got str"),
    ("occluded_conv2d", {"fill": torch.ones(3)}, ValueError,
     "fill a number, [4], (2, 4), (1, 4, 9, 8) or Windows, got (3,)"),
    ("occluded_conv2d", {"fill": windows()}, ValueError, "the number of fill 2, got 3"),
    ("occluded_conv2d", {"mask": windows()}, TypeError, "mask.values of dtype bool, got torch.float32"),
    ("unpool_relu_conv_transpose2d", {"overlap": "first"}, ValueError, "overlap one of ('sum', 'last'), got 'first'"),
    ("unpool_relu_conv_transpose2d", {"frames": torch.ones(1, 4, 9, 8)}, ValueError,
     "values.image below 1, the number of frames, got 1"),
    ("unpool_relu_conv_transpose2d", {"switches": torch.zeros(2, 4, 9, 8).byte()}, ValueError,
     "pool_kernel_size with switches, got None"),
    ("unpool_relu_conv_transpose2d", {"switches": torch.zeros(1, 4, 9, 8).byte(), "pool_kernel_size": 2}, ValueError,
     "values.image below 1, the number of switches, got 1"),
    ("unpool_relu_conv_transpose2d", {"output_size": 5}, ValueError,
     "output_size one that the convolution Sliding(kernel=(3, 3), stride=(1, 1), padding=(0, 0), dilation=(1, 1))"
     " turns into (9, 8), got (5, 5)"),
]  # fmt: skip


@pytest.mark.parametrize(("op", "changes", "error", "message"), BAD)
def test_bad_arguments(op: str, changes: Arguments, error: type, message: str) -> None:
    getattr(ops, op)(**BASE[op])  # nothing else is wrong with them
    assert_refused(getattr(ops, op), BASE[op] | changes, error, message)


class NoLooks(TorchDispatchMode):
    """Refuses whatever reads a number on the host; lists all operations."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function.name()
        assert name not in ("aten::_local_scalar_dense", "aten::nonzero", "aten::equal", "aten::_to_copy"), name
        self.seen.append(name)
        return function(*args, **(kwargs or {}))


def on_meta(tensor: Tensor) -> Tensor:
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")


@pytest.mark.parametrize("op", OPS)
def test_a_layout_costs_no_look_at_a_number(op: str) -> None:
    """On tensors that have no numbers: what would wait for a GPU cannot happen."""
    arguments = SAMPLES[op][0].arguments(torch.float32)
    meta = pytree.tree_map_only(Tensor, on_meta, arguments)
    with NoLooks() as mode:
        result = public(op)(**meta)
    values = result.values if isinstance(result, Windows) else result
    real = public(op)(**arguments)
    assert values.shape == (real.values if isinstance(real, Windows) else real).shape
    assert len(mode.seen) <= 2, mode.seen  # the op, and a fill that is a number


def test_checked_windows_are_not_checked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[str] = []
    from zfkernels.ops import _window_arguments

    original = _window_arguments.check_places
    monkeypatch.setattr(_window_arguments, "check_places", lambda op, *rest: checked.append(op) or original(op, *rest))
    first = ops.window_conv2d(windows(), FRAMES, torch.ones(6, 4, 3, 3), padding=1)
    assert (checked, first.images) == (["window_conv2d"], 2)
    ops.window_max_pool2d(first, torch.ones(2, 6, 9, 8), 3)
    assert checked == ["window_conv2d"]


@pytest.mark.cpp
@pytest.mark.parametrize("op", OPS)
def test_kernels_guard_memory_themselves(op: str) -> None:
    """The registered op, called with offsets that point elsewhere: refused or, in a reference, never read."""
    entry = registered()[op]
    if "cpp" not in entry.variants or entry.why_not("cpp") is not None:
        pytest.skip("no C++ kernel here")
    flat = list(flat_arguments(op, SAMPLES[op][0].arguments(torch.float32)))
    kernel = entry.variants["cpp"].load()
    kernel(*flat)
    for i, value in enumerate(flat):
        offsets = isinstance(value, Tensor) and value.dtype == torch.int64 and len(value) > 1 and value[-1] > 20
        if offsets:
            for wrong in (value + 1, value * 2, value[:-1], value.flip(0)):
                with pytest.raises(RuntimeError, match=r"expected (\w+_)?offsets"):
                    kernel(*flat[:i], wrong, *flat[i + 1 :])
        if isinstance(value, Tensor) and value.dtype == torch.int64 and len(value) > 1 and not offsets:
            for wrong in (value - 5, value + 5):
                with pytest.raises(RuntimeError, match=r"expected (image|rows)"):
                    kernel(*flat[:i], wrong, *flat[i + 1 :])

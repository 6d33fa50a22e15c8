"""What the samples do not reach in the Triton kernels on windows: rows off their alignment, places to spare."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from support import strict

from zfkernels import ops
from zfkernels.geometry import Sliding
from zfkernels.ops import use_backend
from zfkernels.ops.unpool_relu_conv_transpose2d.triton_plan import convolution_axis
from zfkernels.ops.window_unpool_relu_conv_transpose2d.triton_kernel import first_places, most_places
from zfkernels.windows import Layout, Windows

HALF = torch.float16


def windows(values: torch.Tensor) -> Windows:
    """Two windows of 6 and 4 cells."""
    boxes = torch.tensor([[0, 0, 2, 3], [1, 2, 2, 2]], dtype=torch.int32)
    return Layout.of(boxes, torch.tensor([0, 0]), (4, 5)).windows(values)


CALLS: dict[str, Callable[[Windows, torch.Tensor], Any]] = {
    "conv": lambda w, f: ops.window_conv2d(w, f, torch.ones(4, 8, 2, 2).to(HALF)).values,
    "depthwise": lambda w, f: ops.window_conv2d(w, f, torch.ones(8, 1, 2, 2).to(HALF), groups=8).values,
    "max": lambda w, f: ops.window_max_pool2d(w, f, 2, 1).values,
    "avg": lambda w, f: ops.window_avg_pool2d(w, f, 2, 1).values,
    "gather": lambda w, f: ops.window_gather([w, w], f, Layout.whole(w.image, w.frame)).values,
    "reduce": lambda w, f: ops.window_reduce(w, f),
    "reduce alone": lambda w, f: ops.window_reduce(w, None),
    "stage": lambda w, f: ops.unpool_relu_conv_transpose2d(w, None, torch.ones(8, 4, 2, 2).to(HALF), f).values,
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize(("width", "first"), [(8, 0), (16, 8), (12, 4), (12, 0), (17, 1)])
def test_rows_off_their_alignment_get_no_hint(name: str, width: int, first: int) -> None:
    """Eight channels are 16 bytes: whether rows begin at multiples of them is up to the tensor around them."""
    values = torch.randint(-9, 9, (10, width)).to(HALF)[:, first : first + 8]
    frames = torch.randint(-9, 9, (1, 8, 4, 5)).to(HALF)
    with use_backend("reference"):
        expected = CALLS[name](windows(values.clone()), frames)
    with strict.watch(), use_backend("triton"):
        found = CALLS[name](windows(values), frames)
    assert torch.equal(found, expected)


def test_zeros_around_a_window_count_in_a_maximum_where_there_are_any() -> None:
    boxes = torch.tensor([[0, 0, 2, 2], [0, 0, 2, 1]], dtype=torch.int32)
    layout = Layout.of(boxes, torch.tensor([0, 0]), (2, 2))
    alone = layout.windows(torch.full((6, 1), -3.0))
    assert ops.window_reduce(alone, None, "max", backend="triton").tolist() == [[-3.0], [0.0]]


@pytest.mark.parametrize("seed", range(40))
def test_places_of_a_stage(seed: int) -> None:
    """Each output has its place, and the grid has room for all places of any windows."""
    draw = random.Random(seed)
    conv = Sliding(*(tuple(draw.randint(*limits) for _ in "yx") for limits in ((1, 5), (1, 4), (0, 3), (1, 3))))
    pool = Sliding((4, 4), (draw.randint(1, 3), draw.randint(1, 3)))
    axes = [convolution_axis(conv, i) for i in (0, 1)]
    boxes = [[draw.randint(0, 9), draw.randint(0, 9), draw.randint(0, 6), draw.randint(0, 6)] for _ in range(9)]
    needed = []
    for box in boxes:
        lengths = []
        for i in (0, 1):
            _, stride, padding, dilation, _, phases, *_ = axes[i]
            # The rows q that some phase makes an output of this box from: stride q + phase dilation - padding.
            rows = [
                (at + padding - phase * dilation) // stride // pool.stride[i]
                for at in range(box[i], box[i] + box[2 + i])
                for phase in range(phases)
                if (at + padding - phase * dilation) % stride == 0
            ]
            lengths.append((min(rows), max(rows)) if rows else None)
        needed.append(lengths)
    starts = first_places(torch.tensor(boxes, dtype=torch.int32), axes, pool).tolist()
    for box, lengths, first, last in zip(boxes, needed, starts, starts[1:], strict=False):
        spans = [1 if span is None else span[1] - span[0] + 1 for span in lengths]
        empty = None in lengths or not box[2] * box[3]
        assert last - first >= (0 if empty else math.prod(spans))
    assert starts[-1] <= most_places(sum(h * w for _, _, h, w in boxes), len(boxes), axes, pool)

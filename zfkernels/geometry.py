"""Boxes of cells and how a convolution or pooling carries them, forwards and backwards.

A box is a half-open rectangle of cells of a layer, `[top, bottom) x [left, right)`. One changed pixel changes a box of
each later layer (:func:`outputs_touched`); one activation depends on a box of each earlier layer
(:func:`inputs_read`). Both functions are exact: they follow every tap of the window, so that gaps left by strides and
dilation are seen, and clamp at the border of the layer. Everything else in the package builds on these two.

All functions work on the boxes of all positions at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

Pair = tuple[int, int]


@dataclass(frozen=True)
class Sliding:
    """Geometry of a convolution or pooling layer; each field is (rows, columns), in cells.

    ``padding`` is the padding before the first row and column; what follows the last one is given by the size of the
    output.
    """

    kernel: Pair
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)

    @property
    def extent(self) -> Pair:
        """Cells from the first to the last tap, both included."""
        return (self.kernel[0] - 1) * self.dilation[0] + 1, (self.kernel[1] - 1) * self.dilation[1] + 1

    @property
    def has_gaps(self) -> bool:
        """Whether cells lie between the taps."""
        return self.extent != self.kernel

    def output_size(self, size: Pair, ceil_mode: bool = False) -> Pair:
        """Size of the output for an input of ``size``, as ``F.conv2d`` and ``F.max_pool2d`` have it."""
        return self._output_length(size[0], 0, ceil_mode), self._output_length(size[1], 1, ceil_mode)

    def _output_length(self, length: int, axis: int, ceil_mode: bool) -> int:
        stride, padding = self.stride[axis], self.padding[axis]
        room = length + 2 * padding - self.extent[axis]
        if not ceil_mode:
            return room // stride + 1
        out = -(-room // stride) + 1
        return out - 1 if (out - 1) * stride >= length + padding else out  # a window must start inside the input

    def span(self, size: Pair) -> Pair:
        """Cells of the padded input that an output window of ``size`` reads."""
        return (size[0] - 1) * self.stride[0] + self.extent[0], (size[1] - 1) * self.stride[1] + self.extent[1]

    def most_touched(self, size: Pair) -> Pair:
        """The largest number of outputs that an input window of ``size`` can touch, borders left aside."""
        return (
            (size[0] + self.extent[0] - 2) // self.stride[0] + 1,
            (size[1] + self.extent[1] - 2) // self.stride[1] + 1,
        )


@dataclass(frozen=True)
class Boxes:
    """P boxes of one layer: ``lo`` and ``hi`` are int64 [P, 2] (row, column), half-open; an empty box is all zeros."""

    lo: Tensor
    hi: Tensor

    @property
    def size(self) -> Tensor:
        """int64 [P, 2]: rows and columns."""
        return self.hi - self.lo

    @property
    def flat(self) -> Tensor:
        """int32 [P, 4] (top, left, height, width), as the ops take boxes."""
        return torch.cat([self.lo, self.size], 1).to(torch.int32)

    @staticmethod
    def of(flat: Tensor, frame: Pair | None = None) -> Boxes:
        """Boxes from int [P, 4] (top, left, height, width), clipped to ``frame`` if there is one."""
        lo, size = flat.to(torch.int64).split(2, 1)
        hi = lo + size
        if frame is not None:
            lo, hi = lo.clamp(min=0), hi.clamp(max=per_axis(hi, frame))
        return _empty_as_zero(lo, hi)


def boxes(origins: Tensor, size: Pair, frame: Pair) -> Boxes:
    """Boxes of ``size`` at ``origins`` [P, 2], clipped to ``frame``."""
    lo = origins.to(torch.int64)
    hi = (lo + per_axis(lo, size)).clamp(max=per_axis(lo, frame)).clamp(min=0)
    return _empty_as_zero(lo.clamp(min=0), hi)


def outputs_touched(changed: Boxes, layer: Sliding, frame: Pair) -> Boxes:
    """The outputs of ``layer`` (of size ``frame``) that read at least one cell of each box: the way forwards."""
    if not layer.has_gaps:  # the borders of the box give the first and last output
        stride, padding = (per_axis(changed.lo, pair) for pair in (layer.stride, layer.padding))
        end = (changed.hi + (padding + stride - 1)) // stride * (changed.lo < changed.hi)
        return _empty_as_zero(first_touched(changed.lo, layer).clamp(min=0), end.clamp(max=per_axis(end, frame)))
    lo, hi = [], []
    for axis in (0, 1):
        taps = _taps(layer, axis, changed.lo.device)
        stride, padding = layer.stride[axis], layer.padding[axis]
        first = (-((taps - padding - changed.lo[:, axis]) // stride)).clamp(min=0)
        last = ((changed.hi[:, axis] - 1 + padding - taps) // stride).clamp(max=frame[axis] - 1)
        a, b = _hull(first, last, first <= last)
        lo.append(a)
        hi.append(b)
    return _empty_as_zero(torch.stack(lo, 1), torch.stack(hi, 1))


def first_touched(lo: Tensor, layer: Sliding) -> Tensor:
    """The first output, < 0 before the border, of a ``layer`` without gaps that reads cells from ``lo`` [P, 2] on."""
    stride, padding, kernel = (per_axis(lo, pair) for pair in (layer.stride, layer.padding, layer.kernel))
    return (lo + (padding + stride - kernel)) // stride


def inputs_read(outputs: Boxes, layer: Sliding, frame: Pair) -> Boxes:
    """The inputs (a layer of size ``frame``) that the outputs of each box read: the way backwards."""
    if not layer.has_gaps and layer.stride[0] <= layer.kernel[0] and layer.stride[1] <= layer.kernel[1]:
        # What neighbouring outputs read overlaps or touches: the first and the last output give the borders.
        stride, padding, kernel = (per_axis(outputs.lo, pair) for pair in (layer.stride, layer.padding, layer.kernel))
        start = (outputs.lo * stride - padding).clamp(min=0)
        end = ((outputs.hi - 1) * stride + (kernel - padding)) * (outputs.lo < outputs.hi)
        return _empty_as_zero(start, end.clamp(max=per_axis(end, frame)))
    lo, hi = [], []
    for axis in (0, 1):
        taps = _taps(layer, axis, outputs.lo.device)
        stride, padding = layer.stride[axis], layer.padding[axis]
        first = torch.maximum(outputs.lo[:, axis], -((taps - padding) // stride))
        last = torch.minimum(outputs.hi[:, axis] - 1, (frame[axis] - 1 + padding - taps) // stride)
        a, b = _hull(first * stride - padding + taps, last * stride - padding + taps, first <= last)
        lo.append(a)
        hi.append(b)
    return _empty_as_zero(torch.stack(lo, 1), torch.stack(hi, 1))


def union(first: Boxes, *others: Boxes) -> Boxes:
    """The bounding box of the boxes of each position; an empty box adds nothing."""
    lo, hi = first.lo, first.hi
    for other in others:
        empty, other_empty = (hi <= lo).any(1, keepdim=True), (other.hi <= other.lo).any(1, keepdim=True)
        lo, hi = (
            torch.where(empty, other.lo, torch.where(other_empty, lo, torch.minimum(lo, other.lo))),
            torch.where(empty, other.hi, torch.where(other_empty, hi, torch.maximum(hi, other.hi))),
        )
    return Boxes(lo, hi)


def _taps(layer: Sliding, axis: int, device: torch.device) -> Tensor:
    return (torch.arange(layer.kernel[axis], device=device) * layer.dilation[axis])[:, None]


def _hull(first: Tensor, last: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Smallest first and largest last + 1 over the taps [K, P]; (0, 0) where no tap is valid."""
    none = torch.iinfo(torch.int64).max
    lo = torch.where(valid, first, none).amin(0)
    hi = torch.where(valid, last + 1, 0).amax(0)
    return torch.where(lo == none, 0, lo), hi


def _empty_as_zero(lo: Tensor, hi: Tensor) -> Boxes:
    empty = (hi <= lo).any(1, keepdim=True)
    return Boxes(torch.where(empty, 0, lo), torch.where(empty, 0, hi))


def per_axis(like: Tensor, pair: Pair) -> Tensor | int:
    """``pair`` as what broadcasts against origins [P, 2]: a tensor, or a number where both are known to be the same."""
    if type(pair[0]) is int and type(pair[1]) is int and pair[0] == pair[1]:  # symbolic ones must not become a guard
        return pair[0]
    return torch.tensor(pair, dtype=like.dtype, device=like.device)


def place(lo: Tensor, size: Pair, frame: Pair) -> Tensor:
    """Origins, int32 [P, 2], of windows of ``size`` that start at ``lo``, pushed back into the frame where needed."""
    return lo.clamp(max=per_axis(lo, (frame[0] - size[0], frame[1] - size[1]))).clamp(min=0).to(torch.int32)

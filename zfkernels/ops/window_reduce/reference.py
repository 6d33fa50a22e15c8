"""Sum or maximum over each frame with a window's cells in place of the frame's, in plain PyTorch.

    out[p, c] = sum (or max) over y, x of cell(p, y, x)[c]

with cell that of window p where it has one, else that of frame image[p] (zero without frames). What lies outside the
box is taken from running sums (maxima) of the frame: of whole rows above and below it, of parts of rows beside it.
Nothing is subtracted, so that no digit is lost and an infinite value inside the box does not matter.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from zfkernels.geometry import Pair

_TOGETHER = 1 << 22  # elements that are gathered at a time


def window_reduce(
    values: Tensor,  # [cells, C]
    boxes: Tensor,  # int32 [P, 4]
    offsets: Tensor,  # int64 [P + 1]
    image: Tensor,  # int64 [P]
    frames: Tensor | None,  # [N, C, H, W]
    frame: Pair,  # (H, W)
    how: str,
) -> Tensor:  # [P, C]
    reduction = REDUCTIONS[how]
    maps = values.to(torch.promote_types(values.dtype, torch.float32))
    out = torch.segment_reduce(maps, how, offsets=offsets, axis=0, initial=reduction.nothing, unsafe=True)
    box = boxes.to(torch.int64)
    if frames is None:
        covered = (box[:, 2] * box[:, 3] == frame[0] * frame[1])[:, None]
        out = reduction.pair(out, torch.zeros_like(out).masked_fill_(covered, reduction.nothing))
    else:
        sums = _Running(frames.permute(0, 2, 3, 1).to(maps.dtype), reduction)
        step = max(_TOGETHER // (frame[0] * values.shape[1]), 1)
        for first in range(0, len(boxes), step):
            run = slice(first, first + step)
            out[run] = reduction.pair(out[run], sums.around(box[run], image[run]))
    return out.to(values.dtype)


@dataclass(frozen=True)
class Reduction:
    """How numbers are brought together."""

    nothing: float  # what changes nothing
    pair: Callable[[Tensor, Tensor], Tensor]
    running: Callable[[Tensor, int], Tensor]
    over: Callable[[Tensor, int], Tensor]


REDUCTIONS = {
    "sum": Reduction(0.0, torch.add, torch.cumsum, torch.sum),
    "max": Reduction(float("-inf"), torch.maximum, lambda maps, axis: maps.cummax(axis).values, torch.amax),
}


class _Running:
    """Running reductions of frames [N, H, W, C]: of whole rows from above and from below, of each row from both ends.

    Number i of them holds the first (the last) i rows (cells).
    """

    def __init__(self, frames: Tensor, reduction: Reduction) -> None:
        self.reduction = reduction
        rows = reduction.over(frames, 2)
        self.above, self.below = self._run(rows, 1), self._run(rows.flip(1), 1)  # [N, H + 1, C]
        self.before, self.after = self._run(frames, 2), self._run(frames.flip(2), 2)  # [N, H, W + 1, C]

    def _run(self, maps: Tensor, axis: int) -> Tensor:
        shape = list(maps.shape)
        shape[axis] = 1
        return torch.cat([maps.new_full(shape, self.reduction.nothing), self.reduction.running(maps, axis)], axis)

    def around(self, box: Tensor, image: Tensor) -> Tensor:
        """Of the cells of frame ``image`` [P] outside ``box`` int64 [P, 4]: [P, C]."""
        height, width = self.before.shape[1], self.before.shape[2] - 1
        top, left, right = box[:, 0], box[:, 1], width - box[:, 1] - box[:, 3]
        bottom = top + box[:, 2]
        rows = torch.arange(height, device=box.device)
        beside = self.reduction.pair(
            self.before[image[:, None], rows, left[:, None]], self.after[image[:, None], rows, right[:, None]]
        )
        outside = (rows < top[:, None]) | (rows >= bottom[:, None])
        beside = self.reduction.over(beside.masked_fill_(outside[:, :, None], self.reduction.nothing), 1)
        ends = self.reduction.pair(self.above[image, top], self.below[image, height - bottom])
        return self.reduction.pair(ends, beside)

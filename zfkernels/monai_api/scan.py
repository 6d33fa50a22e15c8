"""MONAI's grid of places, and how it joins what is found at overlapping places into one map."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
SIGMA = 0.125  # of the weights of a place's cells, in widths of the mask
LEAST = 1e-3  # weight of a cell


@dataclass(frozen=True)
class Scan:
    """The places of a mask on a part of an image, along each axis.

    A place is ``step`` cells from the one before; the last one is moved back until it ends with the part.

    Attributes:
        start: first cell of the part in the image.
        size: of the part.
        mask: size of the mask.
        step: from one place to the next.
    """

    start: tuple[int, ...]
    size: tuple[int, ...]
    mask: tuple[int, ...]
    step: tuple[int, ...]

    @classmethod
    def over(cls, part: Sequence[tuple[int, int]], mask: Sequence[int], overlap: Sequence[float]) -> Scan:
        """The scan of a part, the first cell and the cell behind the last of each axis.

        A mask overlaps with the one before by a fraction of its width.
        """
        start, size = [first for first, _ in part], [last - first for first, last in part]
        axes = zip(size, mask, overlap, strict=True)
        step = [side if side == length else max(1, int(side * (1 - share))) for length, side, share in axes]
        return cls(tuple(start), tuple(size), tuple(mask), tuple(step))

    @property
    def counts(self) -> tuple[int, ...]:
        """How many places there are along each axis."""
        axes = zip(self.size, self.mask, self.step, strict=True)
        return tuple(-(-(length - side) // step) + 1 for length, side, step in axes)

    def firsts(self) -> list[list[int]]:
        """The first cell of each place in the part, along each axis."""
        axes = zip(self.counts, self.size, self.mask, self.step, strict=True)
        return [[min(i * step, length - side) for i in range(count)] for count, length, side, step in axes]

    def places(self) -> Tensor:
        """int64 [P, axes]: the first cell of each place in the image, in row-major order."""
        axes = [torch.tensor(firsts) + start for firsts, start in zip(self.firsts(), self.start, strict=True)]
        return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(axes))

    def blend(self, found: Tensor, weight: Tensor) -> Tensor:
        """[K, *size]: at each cell the weighted mean of what was found at the places that cover it.

        Args:
            found: [P, K], at each place.
            weight: [*mask], of each cell of a place.
        """
        values = found.T.reshape(-1, *self.counts)
        both = self._spread(torch.cat([values, torch.ones_like(values[:1])]), weight)
        return both[:-1] / both[-1]

    def _spread(self, values: Tensor, weight: Tensor) -> Tensor:
        """[K, *size]: the sum of the weighted values [K, *counts] at each cell; the last place of an axis by itself."""
        total = values.new_zeros(len(values), *self.size)
        axes = [[range(count - 1), range(count - 1, count)] if count > 1 else [range(1)] for count in self.counts]
        firsts = self.firsts()
        spread = TRANSPOSED[len(self.size)]
        for part in itertools.product(*axes):
            taken = values[_at(slice(r.start, r.stop) for r in part)]
            cells = spread(taken[:, None], weight[None, None], stride=self.step)[:, 0]
            corner = [axis[r.start] for axis, r in zip(firsts, part, strict=True)]
            ends = zip(corner, cells.shape[1:], strict=True)
            total[_at(slice(first, first + length) for first, length in ends)] += cells
        return total


def weights(mask: Sequence[int], fading: bool) -> Tensor:
    """float32 [*mask]: how much each cell of a place counts: all alike, or less with the distance from the middle."""
    weight = torch.ones(())
    for side in mask:
        distance = torch.arange(side) - (side - 1) / 2
        line = torch.exp(-(distance**2) / (2 * (SIGMA * side) ** 2)) if fading else torch.ones(side)
        weight = weight[..., None] * line
    return weight.clamp(min=LEAST)


def _at(cells: Iterable[slice]) -> tuple[slice, ...]:
    """An index of these cells of all channels."""
    return (slice(None), *cells)

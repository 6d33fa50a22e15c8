"""How the references read cells: all cells that an op can read are rows of one table, a tap is an index into it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from zfkernels.geometry import Pair, Sliding
from zfkernels.windows import cell_places

_TOGETHER = 1 << 22  # elements that are gathered at a time


@dataclass(frozen=True)
class Source:
    """Windows whose cells can be read."""

    values: Tensor  # [cells, C]
    boxes: Tensor  # int32 [P, 4]
    offsets: Tensor  # int64 [P + 1]


@dataclass(frozen=True)
class Cells:
    """The cells of windows, of the frames around them and what lies beyond, in this order.

    Attributes:
        table: [rows, C]; the last row is what lies beyond the frame.
        sources: the windows; a cell that several have is read from the first.
        framed: whether the table holds the cells of frames; else one row of zeros stands for all of them.
        frame: (H, W).
    """

    table: Tensor
    sources: tuple[Source, ...]
    framed: bool
    frame: Pair

    @staticmethod
    def of(
        sources: Sequence[Source], frames: Tensor | None, frame: Pair, dtype: torch.dtype, outside: float = 0.0
    ) -> Cells:
        """The table of ``sources``, of ``frames`` [N, C, H, W] (zeros if None) and of ``outside``, in ``dtype``."""
        like = frames if frames is not None else sources[0].values
        channels = like.shape[1]
        around = like.new_zeros(1, channels) if frames is None else as_cells(frames)
        rows = [*(source.values for source in sources), around, like.new_full((1, channels), outside)]
        return Cells(torch.cat([part.to(dtype) for part in rows]), tuple(sources), frames is not None, frame)

    def index(self, window: Sequence[Tensor], image: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """The rows of the table, int64 [cells, kh, kw], where some cells of the layer stand.

        Args:
            window: for each source the window, int [cells], that each cell is looked up in.
            image: int64 [cells], the frame that it is looked up in where no window has it.
            rows: int64 [cells, kh], rows of the layer, also beyond its border.
            columns: int64 [cells, kw].
        """
        height, width = self.frame
        base = sum(source.values.shape[0] for source in self.sources)
        inside = within(rows, 0, height)[:, :, None] & within(columns, 0, width)[:, None, :]
        if self.framed:
            found = base + ((image[:, None] * height + rows) * width)[:, :, None] + columns[:, None, :]
            found = torch.where(inside, found, self.table.shape[0] - 1)
        else:
            found = torch.where(inside, base, base + 1)
        for source, of in zip(reversed(self.sources), reversed(window), strict=True):
            base -= source.values.shape[0]
            index, inside = look_up(source.boxes, source.offsets, of, rows, columns)
            found = torch.where(inside, base + index, found)
        return found


def look_up(boxes: Tensor, offsets: Tensor, window: Tensor, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """Where the cells at ``rows`` [cells, kh] and ``columns`` [cells, kw] stand among the values, if at all.

    ``window`` int [cells] is the window that each is looked up in. Returns int64 and bool [cells, kh, kw].
    """
    box = boxes.to(torch.int64).index_select(0, window)[:, :, None]
    row, column = rows - box[:, 0], columns - box[:, 1]
    inside = within(row, 0, box[:, 2])[:, :, None] & within(column, 0, box[:, 3])[:, None, :]
    line = offsets.index_select(0, window)[:, None] + row * box[:, 3]
    return line[:, :, None] + column[:, None, :], inside


def within(values: Tensor, first: Tensor | int, last: Tensor | int) -> Tensor:
    """Which are in [first, last)."""
    return (values >= first) & (values < last)


def as_cells(frames: Tensor) -> Tensor:
    """[N, C, H, W] as [N * H * W, C]."""
    return frames.permute(0, 2, 3, 1).reshape(-1, frames.shape[1])


@dataclass(frozen=True)
class Part:
    """A run of output cells of windows."""

    cells: slice
    owner: Tensor  # int32 [cells], the window of each
    image: Tensor  # int64 [cells]
    rows: Tensor  # int64 [cells], the place in the layer
    columns: Tensor

    def read(self, layer: Sliding) -> tuple[Tensor, Tensor]:
        """The rows [cells, kh] and columns [cells, kw] that the outputs read under the taps of ``layer``."""
        places = []
        for axis, place in enumerate((self.rows, self.columns)):
            taps = torch.arange(layer.kernel[axis], device=place.device) * layer.dilation[axis]
            places.append((place * layer.stride[axis] - layer.padding[axis])[:, None] + taps)
        return places[0], places[1]

    def reading(self, layer: Sliding, tap: Pair, frame: Pair) -> tuple[Tensor, Tensor]:
        """The outputs, in a ``frame``, that read these cells under one tap of ``layer``: rows and columns, -1: none."""
        places = []
        for axis, place in enumerate((self.rows, self.columns)):
            at = place + (layer.padding[axis] - tap[axis] * layer.dilation[axis])
            output = at // layer.stride[axis]
            exists = (output * layer.stride[axis] == at) & within(output, 0, frame[axis])
            places.append(torch.where(exists, output, -1))
        return places[0], places[1]


def parts(boxes: Tensor, offsets: Tensor, image: Tensor, owner: Tensor, elements: int) -> Iterator[Part]:
    """All cells of windows in runs for which ``elements`` numbers a cell fit into a cache."""
    rows, columns = cell_places(boxes, offsets, owner)
    step = max(_TOGETHER // max(elements, 1), 64)
    for first in range(0, owner.shape[0], step):
        run = slice(first, first + step)
        yield Part(run, owner[run], image.index_select(0, owner[run]), rows[run], columns[run])

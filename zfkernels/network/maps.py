"""Where a value holds its maps: the axes of rows and columns; all other axes but the first are channels.

A network's maps are not always [N, C, H, W]: transformers and ConvNeXt permute them to [N, H, W, C], shuffles split the
channels into two axes, tokens are [N, H * W, C]. Whatever the order, the cells of windows are [cells, C] with the
channel axes merged in the order in which they stand. Operations that compute each cell alone run on these cells as on
maps of one row: :meth:`Maps.spread` gives the cells the axes of the value, :meth:`Maps.cells` takes them back.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from zfkernels.geometry import Pair


@dataclass(frozen=True)
class Maps:
    """Axes of a value [N, ...] that holds maps.

    Attributes:
        sizes: of all axes behind the first.
        rows: the axis of rows, counted with axis 0, the batch's.
        columns: the axis of columns; the same as ``rows`` where one axis holds all cells of the frame, row by row.
        frame: (H, W).
    """

    sizes: tuple[int, ...]
    rows: int
    columns: int
    frame: Pair

    @staticmethod
    def planar(channels: int, frame: Pair) -> Maps:
        """[N, C, H, W]."""
        return Maps((channels, *frame), 2, 3, frame)

    @property
    def is_planar(self) -> bool:
        """Whether the value is [N, C, H, W]."""
        return (len(self.sizes), self.rows, self.columns) == (3, 2, 3)

    @property
    def is_merged(self) -> bool:
        """Whether one axis holds all cells of the frame."""
        return self.rows == self.columns

    @property
    def space(self) -> tuple[int, ...]:
        """The axes of cells."""
        return (self.rows,) if self.is_merged else (self.rows, self.columns)

    @property
    def channel_axes(self) -> tuple[int, ...]:
        return tuple(axis for axis in range(1, len(self.sizes) + 1) if axis not in self.space)

    @property
    def channel_sizes(self) -> tuple[int, ...]:
        return tuple(self.sizes[axis - 1] for axis in self.channel_axes)

    @property
    def channels(self) -> int:
        """Channels of a cell, all channel axes together."""
        return prod(self.channel_sizes)

    @property
    def _cells_first(self) -> tuple[int, ...]:
        """Axes of a value in the order batch, rows, columns, channels."""
        return (0, *self.space, *self.channel_axes)

    @property
    def _back(self) -> tuple[int, ...]:
        order = self._cells_first
        return tuple(order.index(axis) for axis in range(len(order)))

    def frames(self, value: Tensor) -> Tensor:
        """[N, C, H, W], channels last, of a value [N, ...]."""
        if self.is_planar:
            return value.contiguous(memory_format=torch.channels_last)
        cells = value.permute(self._cells_first).reshape(len(value), *self.frame, self.channels)
        return cells.contiguous().permute(0, 3, 1, 2)

    def value(self, frames: Tensor) -> Tensor:
        """The value [N, ...] of frames [N, C, H, W]."""
        if self.is_planar:
            return frames
        space = (self.frame[0] * self.frame[1],) if self.is_merged else self.frame
        return frames.permute(0, 2, 3, 1).reshape(len(frames), *space, *self.channel_sizes).permute(self._back)

    def spread(self, cells: Tensor) -> Tensor:
        """``cells`` [cells, C] with the axes of the value: one image of as many rows as there are cells."""
        space = (len(cells),) if self.is_merged else (len(cells), 1)
        return cells.view(1, *space, *self.channel_sizes).permute(self._back)

    def cells(self, value: Tensor) -> Tensor:
        """[cells, C] of what :meth:`spread` gave the axes to."""
        return value.permute(self._cells_first).reshape(value.shape[self.rows], self.channels)

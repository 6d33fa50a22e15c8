"""Heat maps of winners: where a small square over the image lowers an activation, and by how much of itself."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from zfkernels.gallery.layers import Layer
from zfkernels.gallery.tiles import tile_size, view_size
from zfkernels.geometry import Pair, place
from zfkernels.network import record
from zfkernels.occlusion import Watched, WindowSweep
from zfkernels.viz import heat_tiles

ACROSS = 12  # squares across what an activation depends on, about
STEPS = sorted(factor * 2**power for factor in (1, 3) for power in range(12))


def square_of(field: Pair, image_size: Pair) -> Pair:
    """Side and step of the square for activations that depend on so much of the image, in pixels.

    There are few steps to choose from, so that several layers have the same squares; the side is twice the step.
    """
    side = max(view_size(field, image_size))
    step = min(STEPS, key=lambda step: abs(math.log(step * ACROSS / side)))
    return 2 * step, step


class Hiding:
    """Sweeps over the images of winners, only where a square can change one of them.

    Layers whose squares are of one size share a sweep, and nothing behind the last of them is computed.

    Args:
        model: The network.
        layers: Of the gallery.
        shape: Channels, height and width of its images.

    Raises:
        ValueError, TypeError: The network cannot be recorded.
    """

    def __init__(self, model: nn.Module, layers: Sequence[Layer], shape: tuple[int, int, int]) -> None:
        parameter = next(model.parameters(), torch.empty(0))
        self.recording = record(model, parameter.new_zeros(1, *shape))
        self.layers, self.size = layers, (shape[1], shape[2])
        self.names = [self.recording.resolve(layer.name) for layer in layers]
        self.squares = [square_of(layer.field, self.size) for layer in layers]
        self.made: dict[Any, Any] = {}

    @torch.no_grad()
    def heat(self, images: Tensor, units: Mapping[int, Tensor], fields: Mapping[int, Tensor]) -> dict[int, Tensor]:
        """By which share of itself each activation falls, for each place of its layer's square.

        Args:
            images: [N, C, H, W].
            units: Of some layers, by number, int64 [P, 4]: image, channel, row, column.
            fields: int64 [P, 4]: the part of the image that each one depends on.

        Returns:
            [P, rows, cols] for each layer: 1 where hiding takes all of it away, below 0 where it raises it, 0 where
            the square cannot touch it.
        """
        found = {index: self._empty(index, wanted, images) for index, wanted in units.items()}
        for square in sorted(set(self.squares)):
            for image in range(len(images)):
                here = {
                    index: (units[index][:, 0] == image).nonzero()[:, 0]
                    for index in units
                    if self.squares[index] == square
                }
                here = {index: rows for index, rows in here.items() if len(rows)}
                if here:
                    self._sweep(images[image : image + 1], square, here, units, fields, found)
        return found

    def _empty(self, index: int, units: Tensor, images: Tensor) -> Tensor:
        rows, columns = (len(axis) for axis in self._axes(self.squares[index]))
        return images.new_zeros(len(units), rows, columns)

    def _axes(self, square: Pair) -> tuple[Tensor, Tensor]:
        """First rows and columns of the squares."""
        side, step = square
        starts = [torch.arange(-(-(length - side) // step) + 1 if length > side else 1) * step for length in self.size]
        return starts[0], starts[1]

    def _sweep(
        self,
        image: Tensor,
        square: Pair,
        here: Mapping[int, Tensor],
        units: Mapping[int, Tensor],
        fields: Mapping[int, Tensor],
        found: Mapping[int, Tensor],
    ) -> None:
        side = square[0]
        rows, columns = self._axes(square)
        field = torch.cat([fields[index][wanted] for index, wanted in here.items()])  # [U, 4]
        down = (rows + side > field[:, 0, None]) & (rows < field[:, 2, None])
        across = (columns + side > field[:, 1, None]) & (columns < field[:, 3, None])
        places = (down[:, :, None] & across[:, None]).any(0).nonzero()  # [S, 2], row and column of the grid
        boxes = torch.full((len(places), 4), side)
        boxes[:, 0], boxes[:, 1] = rows[places[:, 0]], columns[places[:, 1]]
        watched = []
        for index, wanted in here.items():
            channels = units[index][wanted, 1]
            watched.append(Watched(self.names[index], channels, "value"))
        sweep = WindowSweep(self.recording, boxes, watched, outputs=False, made=self.made)
        values = sweep(image, image.new_zeros(image.shape[1]))
        for (index, wanted), activity in zip(here.items(), values.activities, strict=True):
            share = (activity.clean[:, None] - activity.activity) / activity.clean[:, None].abs()  # [1, S, U]
            maps = found[index]
            maps[wanted[:, None], places[:, 0], places[:, 1]] = share[0].T.nan_to_num(0, 0, 0)

    def tiles(self, index: int, units: Tensor, fields: Tensor, heat: Tensor) -> Tensor:
        """Heat maps [P, rows, cols] of some activations of a layer as tiles, uint8 [P, 3, height, width], on the CPU.

        Each shows the same part of the image as its patch; black is no fall, white the largest.
        """
        layer, (side, step) = self.layers[index], self.squares[index]
        size = tile_size(layer, self.size)
        heat = heat.float().cpu()
        level = torch.zeros(len(units), *size)
        for branch in layer.branches:
            here = branch.members(units[:, 1])
            view = view_size(branch.field, self.size)
            origins = place(fields[here, :2], view, self.size)
            cells = []
            for axis in (0, 1):
                pixel = origins[:, axis, None] + (torch.arange(size[axis]) + 0.5) * view[axis] / size[axis]
                nearest = ((pixel - side / 2) / step).round().long()
                cells.append(nearest.clamp(0, heat.shape[1 + axis] - 1))
            level[here] = heat[here[:, None, None], cells[0][:, :, None], cells[1][:, None, :]]
        return heat_tiles(level, size)

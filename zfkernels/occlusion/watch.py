"""Takes what happens to the maps of one step while squares hide the image: a number for each map and position."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from zfkernels.network.program import Program
from zfkernels.ops import window_reduce
from zfkernels.windows import Windows

STATISTICS = ("sum", "max", "value")


@dataclass(frozen=True)
class Watched:
    """Which maps of which step are watched, and what of them.

    Attributes:
        name: of the step.
        units: int64 [U], maps (where a :class:`Watch` is made, on the device of the values); None: all; "strongest":
            the one of each image that is largest on the clean image.
        statistic: "sum" or "max" over the map, or its "value" at the clean image's strongest place (ties: the first in
            row-major order).
    """

    name: str
    units: Tensor | str | None = "strongest"
    statistic: str = "sum"


@dataclass(frozen=True)
class Activity:
    """What was found.

    Attributes:
        units: the maps: int64 [N] of each image, or int64 [U].
        clean: [N] or [N, U], the statistic on the clean images.
        activity: [N, *positions] or [N, *positions, U].
        places: int64 [N, U, 2] with "value": row and column of each map's strongest place; of layers without maps 0.
    """

    units: Tensor
    clean: Tensor
    activity: Tensor
    places: Tensor | None


class Watch:
    """Collects the statistic of one step for every image and position.

    Args:
        program: the network.
        watched: what is wanted.
        clean: the step's value for the clean images.
        total: images times positions.
    """

    def __init__(self, program: Program, watched: Watched, clean: Tensor, total: int) -> None:
        self.name, self.statistic, self.maps = watched.name, watched.statistic, program.kinds[watched.name].maps
        self.place: Tensor | None = None
        frames = self._frames(clean)
        if self.statistic == "value":
            self.place = frames.flatten(2).argmax(2)  # [N, C]
            self.width = frames.shape[3]
        self.clean = self.of(clean, torch.arange(len(clean), device=clean.device))
        self.single = isinstance(watched.units, str)
        if isinstance(watched.units, str):
            self.units = self.clean.argmax(1)
        elif watched.units is None:
            self.units = torch.arange(self.clean.shape[1], device=clean.device)
        else:
            self.units = watched.units
        shape = (total,) if self.single else (total, len(self.units))
        self.activity = self.clean.new_empty(shape)

    def of(self, value: Tensor, image: Tensor) -> Tensor:
        """[K, C]: the statistic of whole values [K, ...] of ``image`` int64 [K]."""
        cells = self._frames(value).flatten(2)
        if self.statistic == "sum":
            return cells.sum(2)
        if self.statistic == "max":
            return cells.amax(2)
        assert self.place is not None
        return cells.gather(2, self.place.index_select(0, image)[:, :, None])[:, :, 0]

    def of_windows(
        self, windows: Windows | Tensor, frames: Tensor | None, image: Tensor, backend: str | None
    ) -> Tensor:
        """[K, C]: the same of windows, from clean ``frames`` around them; of a step without maps of its values."""
        if not isinstance(windows, Windows):
            return self.of(windows, image)
        if self.statistic != "value":
            return window_reduce(windows, frames, self.statistic, backend=backend)
        assert self.place is not None
        place = self.place.index_select(0, image)  # [K, C]
        box = windows.boxes.long()[:, :, None]
        row, column = place // self.width - box[:, 0], place % self.width - box[:, 1]
        inside = (row >= 0) & (row < box[:, 2]) & (column >= 0) & (column < box[:, 3])
        cell = windows.offsets[:-1, None] + row * box[:, 3] + column
        clean = self.clean.index_select(0, image)
        if not len(windows.values):
            return clean
        return torch.where(inside, windows.values.gather(0, torch.where(inside, cell, 0)), clean)

    def record(self, first: int, found: Tensor, image: Tensor) -> None:
        """Takes the statistic [K, C] of entries from ``first`` on."""
        kept = found.gather(1, self.units[image][:, None])[:, 0] if self.single else found.index_select(1, self.units)
        self.activity[first : first + len(found)] = kept

    def result(self, shape: tuple[int, ...]) -> Activity:
        """``shape``: the axes (images, positions)."""
        clean = self.clean.gather(1, self.units[:, None])[:, 0] if self.single else self.clean[:, self.units]
        places = None
        if self.place is not None:
            place = self.place.gather(1, self.units[:, None]) if self.single else self.place[:, self.units]
            places = torch.stack([place // self.width, place % self.width], -1)
        return Activity(self.units, clean, self.activity.unflatten(0, shape), places)

    def _frames(self, value: Any) -> Tensor:
        return value.flatten(1)[:, :, None, None] if self.maps is None else self.maps.frames(value)

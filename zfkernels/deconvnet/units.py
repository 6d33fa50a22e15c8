"""Which activations of a layer are projected, and how they enter the way down."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from zfkernels.checks import as_int, is_int_tensor
from zfkernels.deconvnet.places import Entry
from zfkernels.geometry import Boxes
from zfkernels.network.kinds import Kind
from zfkernels.network.maps import Maps


class Rows(Protocol):
    """A sequence of rows: it has a length, and slices of it can be taken."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice, /) -> Any: ...


Key = TypeVar("Key")
Part = TypeVar("Part", bound=Rows)


@dataclass(frozen=True)
class Units:
    """Activations of a layer: int64 [P, 4] (image, channel, row, column).

    Attributes:
        here: on the CPU, where boxes are computed.
        there: the same on the layer's device.
    """

    here: Tensor
    there: Tensor

    def __len__(self) -> int:
        return len(self.here)

    def __getitem__(self, rows: slice) -> Units:
        return Units(self.here[rows], self.there[rows])


def as_maps(value: Tensor, kind: Kind) -> Tensor:
    """A layer's value as maps [N, C, h, w]; a layer without maps has one cell for each unit."""
    if value.dim() != 4:
        return value.flatten(1)[:, :, None, None]
    return value if kind.maps is None or kind.maps.is_planar else kind.maps.frames(value)


def unit_boxes(kind: Kind, rank: int, positions: Tensor) -> Boxes:
    """The boxes of cells at ``positions`` [k, 2] of a layer whose value has ``rank`` axes: else all of it."""
    if rank == 4 and kind.maps is not None:
        return Boxes(positions, positions + 1)
    size = positions.new_tensor((1, 1) if kind.maps is None else kind.maps.frame)
    return Boxes(torch.zeros_like(positions), size.expand_as(positions))


def entering(kind: Kind, value: Tensor, units: Tensor, activation: Tensor) -> Tensor:
    """The signals of units [k, 4] (image, channel, row, column): the activation [k] at the unit, zeros elsewhere.

    Returns:
        Values in the boxes of :func:`unit_boxes`, as ``Descent`` takes them.
    """
    count, each = len(units), torch.arange(len(units), device=value.device)
    if value.dim() == 4 and kind.maps is not None:
        values = value.new_zeros(count, kind.maps.channels)
        values[each, units[:, 1]] = activation
        return values
    values = value.new_zeros((count, *value.shape[1:]))
    at = (each, *units[:, 1:].unbind(1)) if value.dim() == 4 else (each, units[:, 1])
    (values if value.dim() == 4 else values.view(count, -1))[at] = activation
    return values if kind.maps is None else _cells(kind.maps, values)


def all_of(values: Tensor) -> tuple[Entry, Tensor]:
    """Signals [N, ...] at all of a step without maps, one for each image."""
    rows = torch.arange(len(values))
    corner = torch.zeros(len(rows), 2, dtype=torch.int64)
    return Entry(rows, Boxes(corner, corner + 1)), values


def where_not_zero(maps: Maps, values: Tensor) -> tuple[Entry, Tensor]:
    """Signals [N, ...] at a step with maps, one for each image, in the box outside of which all of them are zero."""
    frames = maps.frames(values)
    (top, bottom), (left, right) = (_extent(frames, axis) for axis in (2, 3))
    rows = torch.arange(len(values))
    boxes = Boxes(*(torch.tensor(corner).expand(len(rows), 2) for corner in ((top, left), (bottom, right))))
    return Entry(rows, boxes), frames[:, :, top:bottom, left:right].permute(0, 2, 3, 1).reshape(-1, maps.channels)


def _cells(maps: Maps, values: Tensor) -> Tensor:
    """The cells [k * H * W, C] of values [k, ...]."""
    return maps.frames(values).permute(0, 2, 3, 1).reshape(-1, maps.channels)


def _extent(maps: Tensor, axis: int) -> tuple[int, int]:
    """First and last + 1 of the cells along ``axis`` that are not zero on every map; (0, 1) if all are."""
    used = (maps != 0).movedim(axis, 0).flatten(1).any(1).nonzero().flatten().tolist()
    return (used[0], used[-1] + 1) if used else (0, 1)


def chosen_units(
    maps: Tensor,
    layer: str,
    channels: int | Sequence[int] | None,
    position: str | tuple[int, int],
) -> Units:
    """The units of some channels of every image of a layer's maps [N, C, h, w].

    With ``position="max"`` they are found on the maps' device, and the host waits for the result once.
    """
    count, depth, _, width = maps.shape
    channels, position = as_int(channels), as_int(position)
    wanted = [*range(depth)] if channels is None else [channels] if isinstance(channels, int) else [*channels]
    wanted = as_int(wanted)
    if not all(isinstance(index, int) for index in wanted):
        raise TypeError(f"project: expected channels None, an int or several ints, got {channels!r}")
    image, channel = (
        t.flatten() for t in torch.meshgrid(torch.arange(count), torch.tensor(wanted, dtype=torch.int64), indexing="ij")
    )
    _check_range(channel, depth, "channel", layer)
    if position == "max":
        image, channel = image.to(maps.device), channel.to(maps.device)
        place = maps.flatten(2).argmax(2)[image, channel]
        return given_units(maps, layer, torch.stack([image, channel, place // width, place % width], 1))
    if isinstance(position, tuple) and len(position) == 2 and all(isinstance(index, int) for index in position):
        row, column = (torch.full_like(image, index) for index in position)
        return given_units(maps, layer, torch.stack([image, channel, row, column], 1))
    raise ValueError(f"project: expected position 'max' or (row, column), got {position!r}")


def given_units(maps: Tensor, layer: str, units: Tensor) -> Units:
    """Units int [P, 4] of a layer's maps [N, C, h, w], checked; on the CPU and on the device of the maps."""
    if not is_int_tensor(units):
        got = units.dtype if isinstance(units, Tensor) else type(units).__name__
        raise TypeError(f"project: expected units an int tensor [P, 4], got {got}")
    if units.dim() != 2 or units.shape[1] != 4:
        raise ValueError(f"project: expected units of shape [P, 4], got {tuple(units.shape)}")
    here = units.to("cpu", torch.int64)
    count, depth, height, width = maps.shape
    for index, (limit, what) in enumerate(
        zip((count, depth, height, width), ("image", "channel", "row", "column"), strict=True)
    ):
        _check_range(here[:, index], limit, what, layer)
    return Units(here, units.to(maps.device, torch.int64))


def _check_range(index: Tensor, limit: int, what: str, layer: str) -> None:
    wrong = index[(index < 0) | (index >= limit)]
    if len(wrong):
        raise ValueError(f"project: expected {what} from 0 to {limit - 1} of layer {layer!r}, got {int(wrong[0])}")


def batches_of(units: Mapping[Key, Part], batch_size: int) -> Iterator[dict[Key, Part]]:
    """The rows of all values, one key after the other, in batches of ``batch_size`` rows."""
    batch: dict[Key, Part] = {}
    room = batch_size
    for key, rest in units.items():
        while len(rest):
            batch[key], rest = rest[:room], rest[room:]
            room -= len(batch[key])
            if not room:
                yield batch
                batch, room = {}, batch_size
    if batch:
        yield batch

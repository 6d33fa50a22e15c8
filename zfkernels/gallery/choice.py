"""Which maps of a gallery are shown, and as what: the most telling ones, or a first layer as a sheet of filters."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from zfkernels.viz import SpriteGrid, as_picture, tile_board

if TYPE_CHECKING:
    from PIL.Image import Image

    from zfkernels.gallery.reader import Gallery


def first_maps(gallery: Gallery, layer: str, count: int) -> list[int]:
    """``Gallery.first_maps``."""
    if not isinstance(count, int) or isinstance(count, bool):
        raise TypeError(f"Gallery.first_maps: expected count an int, got {type(count).__name__}")
    if count < 1:
        raise ValueError(f"Gallery.first_maps: expected count ≥ 1, got {count}")
    drawn = gallery.maps(layer)
    values: dict[int, list[float]] = {}
    for channel, value in gallery.rows(gallery.table, layer, "channel", "value"):
        values.setdefault(channel, []).append(value)
    least = 0.0 if gallery.record(layer)["rectified"] else -math.inf
    many = {channel: sum(value > least for value in found) for channel, found in values.items()}
    most = max(many.values(), default=0)
    selectivity: dict[int, float | None] = {}
    if "statistics_sha256" in gallery.info:
        selectivity = dict(gallery.rows(gallery.statistics, layer, "channel", "selectivity"))

    def place(channel: int) -> tuple[bool, float, float, int]:
        found = selectivity.get(channel)
        return many[channel] < most, 1.0 if found is None else -round(found, 3), -max(values[channel]), channel

    return sorted(drawn, key=place)[:count]


def filters(gallery: Gallery, layer: str) -> tuple[list[int], Tensor]:  # uint8 [maps, 3, h, w]
    """``Gallery.filters``."""
    if "projections" not in gallery.info["blocks"]:
        raise ValueError(f"Gallery.filters: expected a gallery with projections, got one of {gallery.info['blocks']}")
    record = gallery.record(layer)
    if not record.get("filters"):
        raise ValueError(f"Gallery.filters: expected layer a convolution of the image or its rectifier, got {layer!r}")
    best: dict[int, tuple[int, int]] = {}
    names = ("channel", "rank", "value", "top", "left", "bottom", "right")
    for channel, rank, value, top, left, bottom, right in gallery.rows(gallery.table, layer, *names):
        seen = (bottom - top) * (right - left)
        if value > 0 and seen > best.get(channel, (0, 0))[0]:
            best[channel] = seen, rank
    maps = sorted(best)
    tiles = [gallery.projections(layer, channel)[best[channel][1]] for channel in maps]
    return maps, torch.stack(tiles) if tiles else torch.empty(0, 3, *record["tile"], dtype=torch.uint8)


def pictures(
    gallery: Gallery, maps: Mapping[str, Sequence[int]] | int, name: Callable[[str, int], str]
) -> list[tuple[str, list[tuple[str, Image]]]]:
    """Of each layer its title, and caption and picture of each map; or of its filters, where a number is given."""
    if not isinstance(maps, int):
        return [(layer, _row(gallery, layer, maps, name)) for layer, maps in maps.items()]
    rows = []
    for layer in gallery.layers:
        sheet = _sheet(gallery, layer) if shows_filters(gallery, layer) else []
        rows.append((layer, sheet or _row(gallery, layer, gallery.first_maps(layer, maps), name)))
    return rows


def shows_filters(gallery: Gallery, layer: str) -> bool:
    """Whether a layer is shown as a sheet of its filters."""
    return bool(gallery.record(layer).get("filters")) and "projections" in gallery.info["blocks"]


def _sheet(gallery: Gallery, layer: str) -> list[tuple[str, Image]]:
    """Caption and picture of all filters of a first layer; nothing where no map of it is above zero."""
    maps, found = filters(gallery, layer)
    if not maps:
        return []
    without = gallery.record(layer)["maps"] - len(maps)
    words = f"the filter of each map, by number, row by row{f'; {without} without one' if without else ''}"
    columns = math.ceil(math.sqrt(2 * len(maps)))
    return [(words, as_picture(tile_board(found, columns, gap=SpriteGrid.TILE_GAP)))]


def _row(
    gallery: Gallery, layer: str, channels: Sequence[int], name: Callable[[str, int], str]
) -> list[tuple[str, Image]]:
    return [(name(layer, channel), gallery.picture(layer, channel)) for channel in channels]

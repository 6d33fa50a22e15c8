"""Figure 7: what a network says while a square hides each part of an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from zfkernels._extras import require
from zfkernels.viz.panels import caption, classes_panel, effect_panel, frame, heat_panel, show_picture
from zfkernels.viz.style import INK, new_figure, shorten
from zfkernels.viz.tiles import SpriteGrid, map_sprite

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class OcclusionRow:
    """What one row of :func:`occlusion_sheet` shows: a photo, and what a network says while a square hides each part.

    Attributes:
        name: Of the photo.
        pixels: uint8 [3, H, W], the photo.
        positions: int [rows, cols, 2], row and column of the square's first pixel.
        window: Height and width of the square.
        square: uint8 [3], its colour.
        fill: What the square shows, in words.
        map_name: Of the feature map.
        activity: [rows, cols], its spatial sum.
        tiles: uint8 [2, k, h, w, 3]: projections of the map and the patches that they lie in, this photo's first.
        class_name: Of the class whose probability is shown.
        clean: Its probability with nothing hidden.
        probability: [rows, cols], its probability.
        best: int [rows, cols], the most probable class.
        names: Names of the classes in ``best``.
    """

    name: str
    pixels: Tensor
    positions: Tensor
    window: tuple[int, int]
    square: Tensor
    fill: str
    map_name: str
    activity: Tensor
    tiles: np.ndarray
    class_name: str
    clean: float
    probability: Tensor
    best: Tensor
    names: Mapping[int, str]


HEADINGS = (
    "photo", "strongest map", "its projections and patches", "probability of the class",
    "most probable class",
)  # fmt: skip
# In inches: side of a panel, room for a bar or a legend beside it, between panels, for headings, around a row's panels.
SIDE, BAR, LEGEND, GAP, HEAD, ABOVE, BELOW = 1.5, 0.75, 2.2, 0.2, 0.3, 0.25, 0.5
TILE = 48  # pixels of a side of a tile, at least: gaps between smaller ones would be wider than they


def occlusion_sheet(rows: Sequence[OcclusionRow]) -> Figure:
    """Photos under a sliding square, a row of five panels each, as in the paper's figure 7.

    (a) the photo with the square in its corner, and a frame where it hurts most; (b) the spatial sum of the map that
    answers most to the photo, by the place of the square's middle; (c) projections of that map beside the patches
    that they lie in; (d) the probability of the photo's class, in colours centred on that with nothing hidden;
    (e) the most probable class.

    Source: Zeiler & Fergus 2013 (arXiv 1311.2901), figure 7.
    """
    tiles = max(_aspect(row) for row in rows) * SIDE
    room = (SIDE, SIDE + BAR, tiles, SIDE + BAR, SIDE + LEGEND)
    lefts = [GAP / 2 + sum(room[:n]) + GAP * n for n in range(len(room))]
    width, height = sum(room) + GAP * len(room), HEAD + (ABOVE + SIDE + BELOW) * len(rows)
    figure = new_figure(width, height)
    figure.set_layout_engine("none")  # panels of one size, in their places
    for letter, left, heading in zip("abcde", lefts, HEADINGS, strict=True):
        figure.text(left / width, 1 - 0.08 / height, f"({letter}) {heading}", va="top", fontsize=9.5, weight="bold",
                    color=INK)  # fmt: skip
    for n, row in enumerate(rows):
        bottom = height - HEAD - (ABOVE + SIDE + BELOW) * (n + 1) + BELOW
        sides = (SIDE, SIDE, _aspect(row) * SIDE, SIDE, SIDE)
        a, b, c, d, e = (
            figure.add_axes((left / width, bottom / height, side / width, SIDE / height))
            for left, side in zip(lefts, sides, strict=True)
        )
        _photo_panel(a, row)
        heat_panel(b, row.pixels, row.activity, row.positions, row.window, "sum of the map")
        caption(b, shorten(row.map_name, 28))
        _tiles_panel(c, row)
        effect_panel(d, row.pixels, row.probability, row.clean, row.positions, row.window, "probability")
        caption(d, f"{shorten(row.class_name)}: {row.clean:.2f}")
        _below(d, "black line: nothing hidden\nred: hiding this place lowers it")
        classes_panel(e, row.pixels, row.best, row.positions, row.window, row.names.__getitem__)
        caption(e, "and its share of the places")
    return figure


def _below(axes: Axes, text: str) -> None:
    axes.annotate(text, (0, 0), (0, -4), xycoords="axes fraction", textcoords="offset points", va="top", fontsize=8,
                  color=INK, parse_math=False)  # fmt: skip


def _tiles(row: OcclusionRow) -> np.ndarray:
    """The tiles of a row, enlarged cell by cell to at least ``TILE`` pixels."""
    times = -(-TILE // min(row.tiles.shape[2:4]))
    return row.tiles.repeat(times, 2).repeat(times, 3)


def _aspect(row: OcclusionRow) -> float:
    tiles = _tiles(row)
    height, width = SpriteGrid(tiles.shape[1], tiles.shape[2:4], tiles.shape[0]).size
    return width / height


def _photo_panel(axes: Axes, row: OcclusionRow) -> None:
    height, width = row.window
    pixels = row.pixels.clone()
    pixels[:, :height, :width] = row.square[:, None, None]
    show_picture(axes, pixels)
    top, left = row.positions.flatten(0, 1)[row.probability.argmin()].tolist()
    frame(axes, top, left, height, width)
    caption(axes, shorten(row.name))
    _below(axes, f"upper left: the square,\n{row.fill};\nframe: lowest probability")


def _tiles_panel(axes: Axes, row: OcclusionRow) -> None:
    """Two squares of tiles, this photo's projection framed."""
    patches = require("matplotlib.patches", "viz")
    tiles = _tiles(row)
    blocks, count, height, width, _ = tiles.shape
    grid = SpriteGrid(count, (height, width), blocks)
    axes.imshow(map_sprite(tiles, [True] * count), extent=(0, grid.size[1], grid.size[0], 0), interpolation="nearest")
    for block in range(blocks):
        top, left = grid.corner(block, 0)
        axes.add_patch(patches.Rectangle((left, top), width, height, fill=False, color="black", linewidth=2))
    axes.set_axis_off()
    caption(axes, "framed: this photo")

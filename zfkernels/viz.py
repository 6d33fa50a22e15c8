"""Drawing: the only place that turns tensors into pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from zfkernels._extras import require

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage
    from PIL.Image import Image

# From cold to hot, of even lightness steps.
HEAT = ((8, 8, 16), (66, 20, 92), (148, 38, 104), (221, 81, 58), (251, 165, 10), (252, 252, 220))
INK, MUTED, PAPER = (24, 24, 27), (113, 113, 122), (255, 255, 255)


def stretch_projections(
    projections: Tensor,  # [P, 3, h, w], any scale
    quantile: float = 0.99,
) -> Tensor:  # uint8 [P, 3, h, w]
    """Projections as pixels: zero is mid-grey, and each projection is stretched by itself, alike on both sides of it.

    The rule: pixel = 127.5 + 127.5 * p / s, clamped, where s is the ``quantile`` of |p| over the cells of this
    projection, or its largest |p| where that quantile is zero. A few extreme cells so do not turn the rest grey, and
    the colours of a projection keep their balance; the strengths of two projections cannot be compared by eye.
    """
    magnitude = projections.abs().flatten(1)
    scale = magnitude.kthvalue(max(1, round(quantile * magnitude.shape[1])), 1).values
    scale = torch.where(scale > 0, scale, magnitude.amax(1))
    scale = torch.where(scale > 0, scale, 1.0).view(-1, 1, 1, 1)
    return (projections / scale * 127.5 + 127.5).clamp_(0, 255).round_().to(torch.uint8)


def resize_tiles(
    tiles: Tensor,  # floating point [P, 3, h, w]
    size: tuple[int, int],
) -> Tensor:  # [P, 3, *size]
    """Tiles at the size in which they are shown, bicubic."""
    return F.interpolate(tiles, size, mode="bicubic", antialias=True)


def heat_tiles(
    maps: Tensor,  # floating point [P, h, w]
    size: tuple[int, int],
) -> Tensor:  # uint8 [P, 3, *size]
    """Feature maps as heat: black is zero and below, white the map's largest value; by nearest cell."""
    scale = maps.nan_to_num(0, 0, 0).amax((1, 2), keepdim=True)
    level = (maps / torch.where(scale > 0, scale, 1.0)).nan_to_num(0).clamp(0, 1)
    colors = maps.new_tensor(HEAT)
    place = level * (len(colors) - 1)
    low = place.floor().long().clamp(max=len(colors) - 2)
    mixed = torch.lerp(colors[low], colors[low + 1], (place - low)[..., None]).permute(0, 3, 1, 2)
    return F.interpolate(mixed, size, mode="nearest-exact").round_().to(torch.uint8)


@dataclass(frozen=True)
class SpriteGrid:
    """Where the tiles of one feature map lie: blocks side by side, each a square grid, in pixels.

    Attributes:
        count: Tiles of a block.
        tile: Height and width of a tile.
        blocks: How many blocks.
    """

    count: int
    tile: tuple[int, int]
    blocks: int

    TILE_GAP = 2

    @property
    def side(self) -> int:
        """Tiles in a row of a block: the smallest square that holds them."""
        return math.isqrt(self.count - 1) + 1

    @property
    def block_gap(self) -> int:
        """Pixels between two blocks."""
        return max(6, self.tile[1] // 5)

    @property
    def block(self) -> tuple[int, int]:
        """Height and width of a block."""
        height, width = (self.side * (length + self.TILE_GAP) - self.TILE_GAP for length in self.tile)
        return height, width

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the whole."""
        return self.block[0], self.blocks * (self.block[1] + self.block_gap) - self.block_gap

    def corner(self, block: int, rank: int) -> tuple[int, int]:
        """Top and left of a tile."""
        row, column = divmod(rank, self.side)
        left = block * (self.block[1] + self.block_gap) + column * (self.tile[1] + self.TILE_GAP)
        return row * (self.tile[0] + self.TILE_GAP), left


def map_sprite(
    tiles: np.ndarray,  # uint8 [blocks, k, h, w, 3], such as projections and patches
    drawn: Sequence[bool],  # [k]
) -> Image:
    """One feature map as an RGBA picture: see ``SpriteGrid``. Gaps and what is not drawn are transparent.

    Source: Zeiler & Fergus 2013 (arXiv 1311.2901), figure 2.
    """
    image = require("PIL.Image", "viz")
    blocks, count, height, width, _ = tiles.shape
    grid = SpriteGrid(count, (height, width), blocks)
    sprite = image.new("RGBA", grid.size[::-1])
    for block in range(blocks):
        for rank in np.flatnonzero(drawn).tolist():
            sprite.paste(image.fromarray(tiles[block, rank]), grid.corner(block, rank)[::-1])
    return sprite


def feature_sheet(
    rows: Sequence[tuple[str, Sequence[tuple[str, Image]]]],
    *,
    columns: int,
    margin: int = 18,
) -> Image:
    """Maps of several layers on one page, as in the paper's figure 2.

    Args:
        rows: For each layer its title, and (caption, sprite) of each map.
        columns: Maps beside each other.
        margin: Pixels around the page and between maps.

    Source: Zeiler & Fergus 2013 (arXiv 1311.2901), figure 2.
    """
    image, draw_on = require("PIL.Image", "viz"), require("PIL.ImageDraw", "viz")
    load_font = require("PIL.ImageFont", "viz").load_default
    title_font, caption_font = load_font(22), load_font(13)
    width = max(
        sum(sprite.width + margin for _, sprite in maps[start : start + columns])
        for _, maps in rows
        for start in range(0, max(len(maps), 1), columns)
    )
    width = max(width, *(round(title_font.getlength(title)) + margin for title, _ in rows))
    height = margin
    for _, maps in rows:
        height += 34 + sum(
            max(sprite.height for _, sprite in maps[start : start + columns]) + 18 + margin
            for start in range(0, len(maps), columns)
        )
    page = image.new("RGB", (width + margin, height), PAPER)
    draw = draw_on.Draw(page)
    y = margin
    for title, maps in rows:
        draw.text((margin, y), title, INK, font=title_font)
        y += 34
        for start in range(0, len(maps), columns):
            x, line = margin, maps[start : start + columns]
            for caption, sprite in line:
                page.paste(sprite, (x, y), sprite)
                draw.text((x, y + sprite.height + 2), caption, MUTED, font=caption_font)
                x += sprite.width + margin
            y += max(sprite.height for _, sprite in line) + 18 + margin
    return page


def save_picture(picture: Image, path: Path, title: str) -> None:
    """Writes an RGBA picture under its title, one pixel for one, in the format of the suffix (.png, .svg)."""
    dpi, head = 100, 22
    width, height = picture.width, picture.height + head
    figure = require("matplotlib.figure", "viz").Figure(figsize=(width / dpi, height / dpi), dpi=dpi)
    axes = figure.add_axes((0, 0, 1, picture.height / height))
    axes.imshow(np.asarray(picture), interpolation="none")
    axes.set_axis_off()
    figure.text(0, 1, title, va="top", fontsize=9, parse_math=False)
    figure.savefig(path, dpi=dpi * (1 if path.suffix == ".svg" else 2))


def as_picture(
    pixels: Tensor,  # uint8 [3, H, W]
) -> Image:
    """Pixels as an RGBA picture."""
    image = require("PIL.Image", "viz").fromarray(pixels.permute(1, 2, 0).cpu().numpy())
    return image.convert("RGBA")


def occlusion_figure(
    pixels: Tensor,  # uint8 [3, H, W]
    values: Tensor,  # [rows, cols], one for each place of the square
    positions: Tensor,  # int [rows, cols, 2], row and column of the square's first pixel
    *,
    window: int,
    title: str,
) -> Figure:
    """The image beside a map of what the network says while a square hides each place.

    Source: Zeiler & Fergus 2013 (arXiv 1311.2901), figure 7.
    """
    figure_type = require("matplotlib.figure", "viz").Figure
    figure = figure_type(figsize=(7.2, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for axes in (left, right):
        _show(axes, pixels)
    heat = _lay_over(
        right, pixels, values.cpu().numpy(), positions, (window, window), alpha=0.75, interpolation="bicubic"
    )
    right.set(title=title)
    left.set(title=f"image; the square is {window} pixels wide")
    figure.colorbar(heat, ax=right, shrink=0.85)
    return figure


@dataclass(frozen=True)
class OcclusionRow:
    """What one row of :func:`occlusion_sheet` shows: a photo, and what a network says while a square hides each part.

    Attributes:
        name: Of the photo.
        pixels: uint8 [3, H, W], the photo.
        positions: int [rows, cols, 2], row and column of the square's first pixel.
        window: Height and width of the square.
        square: uint8 [3], its colour.
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
    map_name: str
    activity: Tensor
    tiles: np.ndarray
    class_name: str
    clean: float
    probability: Tensor
    best: Tensor
    names: Mapping[int, str]


# Of the classes in the order of their share of the places, and of the rest together.
CLASS_COLORS = ("#4468b1", "#f0a63c", "#c44e4e", "#56a06b", "#8f6bb0", "#7cc4d8", "#a98467")
OTHER_COLOR = "#cfcfd4"
# In inches: side of a panel, left edges of the five, width of the page, height of a row and of the headings.
SIDE, LEFTS, PAGE, ROW, HEAD = 2.2, (0.1, 2.5, 5.4, 10.2, 13.1), 17.45, 2.5, 0.35


def occlusion_sheet(rows: Sequence[OcclusionRow]) -> Figure:
    """Photos under a sliding square, a row of five panels each, as in the paper's figure 7.

    (a) the photo with the square in its corner, and a frame where it hurts most; (b) the spatial sum of the map that
    answers most to the photo, by the place of the square's middle; (c) projections of that map beside the patches
    that they lie in; (d) the probability of the photo's class; (e) the most probable class.

    Source: Zeiler & Fergus 2013 (arXiv 1311.2901), figure 7.
    """
    height = HEAD + ROW * len(rows)
    figure = require("matplotlib.figure", "viz").Figure(figsize=(PAGE, height))
    headings = ("photo and square", "strongest map: activity", "strongest map: projections and what they lie on",
                "probability of the class", "most probable class")  # fmt: skip
    for letter, left, heading in zip("abcde", LEFTS, headings, strict=True):
        figure.text(left / PAGE, 1 - 0.1 / height, f"({letter})  {heading}", va="top", fontsize=11, weight="bold")
    for n, row in enumerate(rows):
        bottom = (height - HEAD - ROW * (n + 1) + 0.1) / height
        tiles = SpriteGrid(row.tiles.shape[1], row.tiles.shape[2:4], row.tiles.shape[0]).size
        widths = (SIDE, SIDE, SIDE * tiles[1] / tiles[0], SIDE, SIDE)
        a, b, c, d, e = (
            figure.add_axes((left / PAGE, bottom, width / PAGE, SIDE / height))
            for left, width in zip(LEFTS, widths, strict=True)
        )
        _photo_panel(a, row)
        _heat_panel(b, row, row.activity, row.map_name, cmap="magma")
        _tiles_panel(c, row)
        caption = f"{shorten(row.class_name)}: {row.clean:.2f} with nothing hidden"
        _heat_panel(d, row, row.probability, caption, cmap="viridis", vmin=0)
        _classes_panel(e, row)
    return figure


def _photo_panel(axes: Axes, row: OcclusionRow) -> None:
    patches = require("matplotlib.patches", "viz")
    height, width = row.window
    pixels = row.pixels.clone()
    pixels[:, :height, :width] = row.square[:, None, None]
    _show(axes, pixels)
    top, left = row.positions.flatten(0, 1)[row.probability.argmin()].tolist()
    for color, line in (("black", 2.4), ("white", 1.2)):
        axes.add_patch(patches.Rectangle((left, top), width, height, fill=False, color=color, linewidth=line))
    _caption(axes, row.name)


def _heat_panel(axes: Axes, row: OcclusionRow, values: Tensor, caption: str, **options: Any) -> None:
    heat = _lay_over(axes, row.pixels, values.cpu().numpy(), row.positions, row.window, **options)
    _outline(axes, row.pixels)
    bar = axes.inset_axes((1.03, 0, 0.035, 1))
    axes.figure.colorbar(heat, cax=bar)
    bar.tick_params(labelsize=7, length=2)
    _caption(axes, caption)


def _tiles_panel(axes: Axes, row: OcclusionRow) -> None:
    """Two squares of tiles, this photo's projection framed."""
    patches = require("matplotlib.patches", "viz")
    blocks, count, height, width, _ = row.tiles.shape
    grid = SpriteGrid(count, (height, width), blocks)
    axes.imshow(map_sprite(row.tiles, [True] * count), extent=(0, grid.size[1], grid.size[0], 0))
    for block in range(blocks):
        top, left = grid.corner(block, 0)
        axes.add_patch(patches.Rectangle((left, top), width, height, fill=False, color="black", linewidth=2))
    axes.set_axis_off()
    _caption(axes, f"{row.map_name}; framed: this photo")


def _classes_panel(axes: Axes, row: OcclusionRow) -> None:
    """A colour for each class, and a legend with its share of the places."""
    colors, patches = require("matplotlib.colors", "viz"), require("matplotlib.patches", "viz")
    classes, counts = row.best.flatten().unique(return_counts=True)
    order = counts.argsort(descending=True, stable=True)
    shown = order[: len(CLASS_COLORS)]
    palette = (*CLASS_COLORS[: len(shown)], OTHER_COLOR)
    color_of = torch.full((int(classes.max()) + 1,), len(shown))
    color_of[classes[shown]] = torch.arange(len(shown))
    _lay_over(
        axes, row.pixels, color_of[row.best].numpy(), row.positions, row.window,
        cmap=colors.ListedColormap(palette), vmin=-0.5, vmax=len(palette) - 0.5,
    )  # fmt: skip
    _outline(axes, row.pixels)
    labels = [f"{shorten(row.names[int(classes[n])])}, {counts[n] / row.best.numel():.0%}" for n in shown]
    if len(order) > len(shown):
        labels.append(f"{len(order) - len(shown)} others, {counts[order[len(shown) :]].sum() / row.best.numel():.0%}")
    handles = [patches.Patch(color=color, label=label) for color, label in zip(palette, labels, strict=False)]
    legend = axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.01, 1.02), fontsize=8, frameon=False)
    for text in legend.get_texts():
        text.set_parse_math(False)


def shorten(name: str, length: int = 22) -> str:
    """The name of a class, cut off where it would leave its place."""
    return name if len(name) <= length else name[: length - 1].rstrip() + "…"


def _caption(axes: Axes, text: str) -> None:
    axes.set_title(text, fontsize=8, loc="left", pad=3, color="#52525b", parse_math=False)  # names may hold a $


def _show(axes: Axes, pixels: Tensor) -> None:
    """A picture, uint8 [3, H, W], in its own pixels as coordinates."""
    height, width = pixels.shape[1:]
    axes.imshow(pixels.permute(1, 2, 0).cpu().numpy(), interpolation="bicubic", extent=(0, width, height, 0))
    axes.set_axis_off()


def _outline(axes: Axes, pixels: Tensor) -> None:
    """The edges of a picture, uint8 [3, H, W], in transparent black over whatever is there."""
    height, width = pixels.shape[1:]
    down, across = np.gradient(pixels.float().mean(0).cpu().numpy())
    edges = np.hypot(down, across)
    alpha = 0.5 * np.clip(edges / max(float(np.quantile(edges, 0.98)), 1e-6), 0, 1)
    black = np.zeros((height, width, 3), np.float32)
    axes.imshow(np.dstack([black, alpha]), interpolation="bicubic", extent=(0, width, height, 0))
    axes.set_axis_off()


def _lay_over(
    axes: Axes,
    pixels: Tensor,
    values: np.ndarray,  # [rows, cols]
    positions: Tensor,  # int [rows, cols, 2]
    window: tuple[int, int],
    **options: Any,
) -> AxesImage:
    """Values over a picture, each at the middle of its square."""
    edges = []
    for axis, length in ((0, len(positions)), (1, len(positions[0]))):
        first, last = positions[0, 0, axis].item(), positions[-1, -1, axis].item()
        half_step = (last - first) / max(1, length - 1) / 2 or window[axis] / 2
        edges.append((first + window[axis] / 2 - half_step, last + window[axis] / 2 + half_step))
    (top, bottom), (left, right) = edges
    image = axes.imshow(values, **options, extent=(left, right, bottom, top))
    axes.set(xlim=(0, pixels.shape[2]), ylim=(pixels.shape[1], 0))
    return image

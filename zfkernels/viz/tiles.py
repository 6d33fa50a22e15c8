"""Projections and patches as tiles, maps as sprites, layers as sheets."""

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
    from PIL.Image import Image

# From cold to hot, of even lightness steps.
HEAT = ((8, 8, 16), (66, 20, 92), (148, 38, 104), (221, 81, 58), (251, 165, 10), (252, 252, 220))
HEADS = 18  # pixels of a line of headings over a layer's maps
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


def tile_board(
    tiles: Tensor,  # uint8 [P, 3, h, w]
    columns: int,
    gap: int = 1,
) -> Tensor:  # uint8 [3, H, W]
    """Tiles row by row, so many beside each other, with white gaps."""
    count, _, height, width = tiles.shape
    rows = math.ceil(count / columns)
    page = torch.full((3, rows * (height + gap) - gap, columns * (width + gap) - gap), 255, dtype=torch.uint8)
    for n, tile in enumerate(tiles):
        top, left = n // columns * (height + gap), n % columns * (width + gap)
        page[:, top : top + height, left : left + width] = tile
    return page


def feature_sheet(
    rows: Sequence[tuple[str, Sequence[tuple[str, Image]]]],
    *,
    columns: int,
    margin: int = 18,
    title: str = "",
    note: str = "",
    heads: Mapping[str, Sequence[str]] | None = None,
) -> Image:
    """Maps of several layers on one page, as in the paper's figure 2.

    Args:
        rows: For each layer its title, and (caption, sprite) of each map.
        columns: Maps beside each other.
        margin: Pixels around the page and between maps.
        title: Of the page.
        note: What a reader sees in each map.
        heads: Of a layer, by its title, what the blocks of a map show, above its first maps.

    Source: Zeiler & Fergus 2013 (arXiv 1311.2901), figure 2.
    """
    image, draw_on = require("PIL.Image", "viz"), require("PIL.ImageDraw", "viz")
    load_font = require("PIL.ImageFont", "viz").load_default
    title_font, note_font, caption_font = load_font(22), load_font(15), load_font(13)
    width = max(
        sum(sprite.width + margin for _, sprite in maps[start : start + columns])
        for _, maps in rows
        for start in range(0, max(len(maps), 1), columns)
    )
    width = max(width, *(round(title_font.getlength(name)) + margin for name, _ in rows))
    lines = [(part, font, step) for text, font, step in ((title, title_font, 30), (note, note_font, 20)) if text
             for part in wrapped(text, font, width)]  # fmt: skip
    heads = heads or {}
    height = margin + sum(step for _, _, step in lines) + (10 if lines else 0)
    for name, maps in rows:
        height += (
            34
            + HEADS * bool(heads.get(name) and maps)
            + sum(
                max(sprite.height for _, sprite in maps[start : start + columns]) + 18 + margin
                for start in range(0, len(maps), columns)
            )
        )
    page = image.new("RGB", (width + margin, height), PAPER)
    draw = draw_on.Draw(page)
    y = margin
    for part, font, step in lines:
        draw.text((margin, y), part, INK, font=font)
        y += step
    y += 10 if lines else 0
    for name, maps in rows:
        draw.text((margin, y), name, INK, font=title_font)
        y += 34
        words = heads.get(name, ())
        if words and maps:
            x = margin
            for _, sprite in maps[:columns]:
                for n, head in enumerate(words):
                    draw.text((x + n * (sprite.width + margin // 2) // len(words), y), head, MUTED, font=caption_font)
                x += sprite.width + margin
            y += HEADS
        for start in range(0, len(maps), columns):
            x, line = margin, maps[start : start + columns]
            for caption, sprite in line:
                page.paste(sprite, (x, y), sprite)
                draw.text((x, y + sprite.height + 2), caption, MUTED, font=caption_font)
                x += sprite.width + margin
            y += max(sprite.height for _, sprite in line) + 18 + margin
    return page


def wrapped(text: str, font: Any, width: int) -> list[str]:
    """The text in lines of at most ``width`` pixels, as far as its words allow."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) > width and lines[-1]:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def save_picture(picture: Image, path: Path, title: str) -> None:
    """Writes an RGBA picture under its title, one pixel for one, in the format of the suffix (.png, .pdf, .svg)."""
    dpi, line, letter = 100, 15, 8  # a line of the title, and the width of a wide letter, in pixels
    lines = title.splitlines()
    head = 7 + line * len(lines)
    width, height = max(picture.width, letter * max(map(len, lines), default=0)), picture.height + head
    figure = require("matplotlib.figure", "viz").Figure(figsize=(width / dpi, height / dpi), dpi=dpi)
    axes = figure.add_axes((0, 0, picture.width / width, picture.height / height))
    axes.imshow(np.asarray(picture), interpolation="none")
    axes.set_axis_off()
    figure.text(0, 1, title, va="top", fontsize=9, parse_math=False)
    bitmap = path.suffix.lower() == ".png"
    metadata = {"Software" if bitmap else "Creator": "zfkernels"}  # tells it from anybody else's file
    figure.savefig(path, dpi=dpi * (2 if bitmap else 1), metadata=metadata)


def save_sheet(picture: Image, path: Path) -> None:
    """Writes a sheet that has its own title, in the format of the suffix (.png, .pdf, .svg)."""
    if path.suffix.lower() == ".png":
        picture.save(path, optimize=True)
    else:
        save_picture(picture, path, "")


def as_picture(
    pixels: Tensor,  # uint8 [3, H, W]
) -> Image:
    """Pixels as an RGBA picture."""
    image = require("PIL.Image", "viz").fromarray(pixels.permute(1, 2, 0).cpu().numpy())
    return image.convert("RGBA")

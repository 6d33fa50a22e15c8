"""Figure 4: the strongest activations of maps over the epochs of a training, and how soon they settle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from zfkernels._extras import require
from zfkernels.results import Evolution, LayerEvolution
from zfkernels.results.evolution import SETTLED
from zfkernels.viz.style import GREY, line_style, name_figure, new_figure, plain, whole_ticks
from zfkernels.viz.tiles import INK, MUTED, PAPER, resize_tiles, stretch_projections, wrapped

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image

JUMP = (217, 131, 36)
TILE, GAP, MARGIN, HEAD, SIDE = 56, 3, 14, 58, 64
KEY = (
    "epoch: passes over the training images; map: number of the feature map; orange bar: another image is the strongest"
)


def evolution_sheet(result: Evolution, *, columns: int = 2, title: str = "") -> Image:
    """A block for each layer: maps below each other, epochs beside each other.

    An orange bar before a tile: at this epoch another image has become the strongest one. Empty: no image excites the
    map.

    Args:
        result: What to draw.
        columns: Blocks beside each other.
        title: Network, data set and number of images.

    Source: Zeiler & Fergus 2013 (arXiv 1311.2901), figure 4.
    """
    image = require("PIL.Image", "viz")
    blocks = [_block(layer, result.epochs) for layer in result.layers]
    rows = [blocks[start : start + columns] for start in range(0, len(blocks), columns)]
    width = max(sum(block.width + MARGIN for block in row) for row in rows) + MARGIN
    draw_on, font = require("PIL.ImageDraw", "viz"), require("PIL.ImageFont", "viz").load_default(13)
    key = [line for words in (title, KEY) if words for line in wrapped(words, font, width - 2 * MARGIN)]
    height = sum(max(block.height for block in row) + MARGIN for row in rows) + 2 * MARGIN + 18 * len(key)
    page = image.new("RGB", (width, height), PAPER)
    draw = draw_on.Draw(page)
    for n, line in enumerate(key):
        draw.text((MARGIN, MARGIN + 18 * n), line, INK, font=font)
    y = 2 * MARGIN + 18 * len(key)
    for row in rows:
        x = MARGIN
        for block in row:
            page.paste(block, (x, y))
            x += block.width + MARGIN
        y += max(block.height for block in row) + MARGIN
    return page


def some_maps(result: Evolution, count: int) -> Evolution:
    """``count`` maps of each layer, evenly spaced among those that were followed."""
    layers = []
    for layer in result.layers:
        total = len(layer.maps)
        kept = [n * total // count for n in range(count)] if count < total else list(range(total))
        layers.append(
            LayerEvolution(
                layer.layer,
                layer.maps[kept],
                layer.image[:, kept],
                layer.value[:, kept],
                layer.position[:, kept],
                layer.tiles[:, kept],
                None if layer.fixed is None else layer.fixed[:, kept],
            )
        )
    return Evolution(result.epochs, tuple(layers))


def _block(layer: LayerEvolution, epochs: Tensor) -> Image:
    image, draw_on = require("PIL.Image", "viz"), require("PIL.ImageDraw", "viz")
    load_font = require("PIL.ImageFont", "viz").load_default
    count, maps = layer.image.shape
    step = TILE + GAP + 2
    block = image.new("RGB", (max(SIDE + count * step, 160), HEAD + maps * (TILE + GAP)), PAPER)
    draw = draw_on.Draw(block)
    draw.text((0, 0), layer.layer, INK, font=load_font(15))
    tiles = _drawn(layer.tiles)
    draw.text((SIDE, 20), "epoch", MUTED, font=load_font(13))
    for e, epoch in enumerate(epochs.tolist()):
        draw.text((SIDE + e * step, 37), str(epoch), MUTED, font=load_font(13))
        for m in range(maps):
            x, y = SIDE + e * step, HEAD + m * (TILE + GAP)
            if layer.image[e, m] < 0:
                draw.rectangle((x, y, x + TILE - 1, y + TILE - 1), outline=(228, 228, 231))
                continue
            block.paste(image.fromarray(tiles[e, m].permute(1, 2, 0).numpy()), (x, y))
            if layer.jumps[e, m]:
                draw.rectangle((x - 4, y, x - 2, y + TILE - 1), fill=JUMP)
    for m, number in enumerate(layer.maps.tolist()):
        draw.text((0, HEAD + m * (TILE + GAP) + TILE // 2 - 8), f"map {number}", MUTED, font=load_font(13))
    return block


def _drawn(tiles: Tensor) -> Tensor:  # uint8 [E, M, 3, TILE, TILE]
    flat = tiles.flatten(0, 1)
    _, _, height, width = flat.shape
    scale = TILE / max(height, width)
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    shown = stretch_projections(resize_tiles(flat.float(), size))
    square = torch.full((len(flat), 3, TILE, TILE), 128, dtype=torch.uint8)
    square[:, :, : size[0], : size[1]] = shown
    return square.unflatten(0, tiles.shape[:2])


def convergence_figure(result: Evolution, *, title: str = "") -> Figure:
    """Similarity of projections to those of the last epoch, and the share of maps whose strongest image has changed.

    Left: each map in the one image that excites it most at the end. Right: the share of maps with another strongest
    image than at the epoch before.

    Args:
        result: What to draw.
        title: Network, data set and number of images.

    Source: Zeiler & Fergus 2013 (arXiv 1311.2901), figure 4 and section 4.2.
    """
    figure = new_figure(7.2, 3.3 + 0.3 * bool(title))
    left, right = figure.subplots(1, 2)
    for n, layer in enumerate(result.layers):
        style: dict[str, Any] = {**line_style(n), "marker": "o", "markersize": 3.5}
        left.plot(result.epochs, layer.convergence, **style, label=layer.layer)
        right.plot(result.epochs[1:], 100 * layer.jumps[1:].double().mean(1), **style)
    maps = len(result.layers[0].maps)
    plain(left, title=f"cosine with the projection at the end,\nmean of {maps} maps", x="epoch")
    plain(right, title="maps whose strongest image is another one\nthan at the epoch shown before, in %", x="epoch")
    for axes in (left, right):
        whole_ticks(axes.xaxis)
    left.axhline(SETTLED, color=GREY, linewidth=1, linestyle=":")
    left.set_ylim(top=1.03)
    right.set_ylim(0, 103)
    figure.legend(fontsize=8, frameon=False, loc="outside lower center", ncols=4)
    name_figure(figure, title)
    return figure

"""``Gallery.plot``: maps of layers as a figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from zfkernels.viz.panels import caption
from zfkernels.viz.style import new_figure, shorten

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image

WIDE = 2.3  # inches of a map's picture


def gallery_figure(
    rows: Sequence[tuple[str, Sequence[tuple[str, Image]]]], *, columns: int = 3, note: str = ""
) -> Figure:
    """Maps of several layers, each layer in rows of its own.

    Args:
        rows: For each layer its name, and (caption, picture) of each map; at least one map in all.
        columns: Maps beside each other.
        note: What a reader sees in each map.

    Source: Zeiler & Fergus 2013 (arXiv 1311.2901), figure 2.
    """
    lines = [(layer, maps[start : start + columns]) for layer, maps in rows for start in range(0, len(maps), columns)]
    high = [max(picture.height / picture.width for _, picture in maps) * WIDE for _, maps in lines]
    figure = new_figure(WIDE * columns + 0.2, sum(high) + 0.5 * len(lines) + 0.3)
    grid = figure.subplots(len(lines), columns, squeeze=False, height_ratios=high)
    for line, (layer, maps) in zip(grid, lines, strict=True):
        for axes in line:
            axes.set_axis_off()
        for axes, (words, picture) in zip(line, maps, strict=False):
            axes.imshow(np.asarray(picture), interpolation="none")
            caption(axes, f"{shorten(layer, 20)}, {words}")
    figure.supxlabel(note, fontsize=8, parse_math=False)
    return figure

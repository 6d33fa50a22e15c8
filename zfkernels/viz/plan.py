"""``PlanReport.plot`` and ``plot_boxes``: what an occlusion sweep computes of each layer, in numbers and as boxes."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zfkernels.viz.style import COLORS, GREY, INK, new_figure, plain, shorten

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAMED = 36  # layers that have their names under them; of more every second, third, … one
DENSE = "#d4d4d8"


@dataclass(frozen=True)
class LayerBox:
    """What one square can change of a layer.

    Attributes:
        name: of the layer.
        frame: (rows, columns) of the layer.
        box: (top, left, height, width) of what can change.
        on_windows: whether only that is computed.
    """

    name: str
    frame: tuple[int, int]
    box: tuple[int, int, int, int]
    on_windows: bool


def plan_figure(layers: Sequence[tuple[str, bool, float, float]], *, title: str = "") -> Figure:
    """A bar for each layer that multiplies: the whole layer in grey, and over it what one position needs on average.

    Args:
        layers: For each layer its name, whether it runs on windows, the multiply-adds of the whole layer, and those of
            one position.
        title: Of the figure.
    """
    count = len(layers)
    width = min(12.0, 2.4 + 0.26 * max(count, 12))
    figure = new_figure(width, 3.8)
    axes = figure.subplots()
    places = range(count)
    axes.bar(places, [dense / 1e6 for _, _, dense, _ in layers], color=DENSE, width=0.85, label="the whole layer")
    for windows, label, color in ((True, "one position, on windows", COLORS[0]),
                                  (False, "one position, on whole frames", COLORS[1])):  # fmt: skip
        shown = [(n, planned) for n, (_, on_windows, _, planned) in enumerate(layers) if on_windows == windows]
        if shown:
            axes.bar(
                [n for n, _ in shown], [planned / 1e6 for _, planned in shown], color=color, width=0.85, label=label
            )
    plain(axes, title=textwrap.fill(title, int(12 * width)), x="layer", y="multiply-adds, in millions")
    axes.grid(visible=False, axis="x")
    named = range(0, count, -(-max(count, 1) // NAMED))
    axes.set_xticks(list(named), [shorten(layers[n][0]) for n in named], rotation=90, fontsize=7.5, parse_math=False)
    axes.set_xlim(-0.6, max(count, 1) - 0.4)
    figure.legend(fontsize=8, frameon=False, loc="outside lower center", ncols=3)
    return figure


def boxes_figure(layers: Sequence[LayerBox], *, title: str = "") -> Figure:
    """The box of one square in each layer, every layer drawn equally large.

    Args:
        layers: In order, the image first.
        title: Of the figure.
    """
    from matplotlib.patches import Rectangle

    columns = min(7, len(layers))
    rows = -(-len(layers) // columns)
    figure = new_figure(1.25 * columns + 0.3, 1.75 * rows + 0.6)
    figure.suptitle(textwrap.fill(title, 16 * columns), fontsize=9, parse_math=False)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes, layer in zip(grid.flat, layers, strict=False):
        (height, width), (top, left, box_height, box_width) = layer.frame, layer.box
        color = COLORS[0] if layer.on_windows else COLORS[1]
        axes.add_patch(Rectangle((0, 0), width, height, facecolor=DENSE, edgecolor=GREY, linewidth=0.6))
        axes.add_patch(Rectangle((left, top), box_width, box_height, facecolor=color, edgecolor=INK, linewidth=0.6))
        axes.set_xlim(-0.02 * width, 1.02 * width)
        axes.set_ylim(1.02 * height, -0.02 * height)
        axes.set_aspect("equal")
        axes.set_axis_off()
        said = f"{shorten(layer.name, 16)}\n{box_height}x{box_width} of {height}x{width}"
        axes.set_title(said, fontsize=7, parse_math=False)
    for axes in list(grid.flat)[len(layers) :]:
        axes.remove()
    return figure

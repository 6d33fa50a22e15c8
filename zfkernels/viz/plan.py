"""``PlanReport.plot``: what an occlusion sweep computes of each layer."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from zfkernels.viz.style import COLORS, new_figure, plain, shorten

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAMED = 36  # layers that have their names under them; of more every second, third, … one
DENSE = "#d4d4d8"


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

"""What the charts of this package share: one sequence of colours, plain axes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zfkernels._extras import require

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = ("#3a5fa8", "#d98324", "#3c8d5a", "#b8433f", "#7d5ba6", "#4aa3b5", "#8a6a4f", "#6b7280")
GREY = "#71717a"


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches, whose parts keep out of each other's way."""
    figure: Figure = require("matplotlib.figure", "viz").Figure(figsize=(width, height), layout="constrained")
    return figure


def plain(axes: Axes, *, title: str = "", x: str = "", y: str = "") -> None:
    """Titles and labels, no frame above and to the right, a faint grid. Names in titles are no formulas."""
    axes.set_title(title, fontsize=9, loc="left", parse_math=False)
    axes.set_xlabel(x, fontsize=8)
    axes.set_ylabel(y, fontsize=8)
    axes.tick_params(labelsize=7.5, length=2)
    axes.grid(color="#e4e4e7", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)

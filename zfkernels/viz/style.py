"""What the charts of this package share: one sequence of colours, plain axes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zfkernels._extras import require

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

# Told apart by people who see few colours; after Okabe and Ito (2008), the yellow last.
COLORS = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#6b7280", "#f0e442")
LINES = ("-", "--", ":", "-.")  # after the colours have been used up
GREY, INK = "#6b7280", "#18181b"
ALARM = "#d55e00"


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches, whose parts keep out of each other's way; it shows itself in a notebook."""
    require("matplotlib.figure", "viz")
    from zfkernels.viz.shown import ShownFigure

    return ShownFigure(figsize=(width, height), layout="constrained")


def plain(axes: Axes, *, title: str = "", x: str = "", y: str = "") -> None:
    """Titles and labels, no frame above and to the right, a faint grid. Names in titles are no formulas."""
    axes.set_title(title, fontsize=9, loc="left", parse_math=False)
    axes.set_xlabel(x, fontsize=8.5)
    axes.set_ylabel(y, fontsize=8.5)
    axes.tick_params(labelsize=8, length=2)
    axes.grid(color="#e4e4e7", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def name_figure(figure: Figure, title: str) -> None:
    """Writes ``title`` above the panels of a chart: network, data set, number of images. Empty: nothing is written."""
    if title:
        figure.suptitle(title, fontsize=9, x=0.02, ha="left", parse_math=False)


def whole_ticks(axis: Axis) -> None:
    """Ticks at whole numbers only, for an axis of counts."""
    axis.get_major_locator().set_params(integer=True, min_n_ticks=1)  # type: ignore[call-arg]  # a MaxNLocator


def line_style(n: int) -> dict[str, Any]:
    """The colour and dashes of the n-th line: no two of the first 32 are alike."""
    return {"color": COLORS[n % len(COLORS)], "linestyle": LINES[n // len(COLORS) % len(LINES)]}


def shorten(name: str, length: int = 22) -> str:
    """A name, cut off where it would leave its place."""
    return name if len(name) <= length else name[: length - 1].rstrip() + "…"

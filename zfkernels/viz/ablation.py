"""Table 3 as a figure: training and validation error of each variant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from zfkernels.viz.style import COLORS, GREY, name_figure, new_figure, plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def ablation_figure(rows: Sequence[Mapping[str, Any]], *, title: str = "") -> Figure:
    """Errors of networks trained alike, a line from the training to the validation error, whose length is the gap.

    Args:
        rows: As ``zfkernels.training.ablation.ablate`` returns them.
        title: Data set and recipe.

    Source: Zeiler & Fergus 2013 (arXiv 1311.2901), table 3.
    """
    figure = new_figure(7.2, 0.9 + 0.2 * bool(title) + 0.3 * len(rows))
    axes = figure.subplots()
    for n, row in enumerate(rows):
        train, val = 100 * row["train_error_mean"], 100 * row["val_error_mean"]
        axes.plot([train, val], [n, n], color="#c7c7cc", linewidth=2, zorder=1)
        for split, value, color in (("train", train, COLORS[0]), ("val", val, COLORS[1])):
            spread = 100 * row[f"{split}_error_std"]
            axes.errorbar(value, n, xerr=spread, fmt="o", color=color, markersize=5, capsize=2, linewidth=1)
    for label, color in (("training images", COLORS[0]), ("validation images", COLORS[1])):
        axes.plot([], [], "o", color=color, label=label)
    plain(axes, title=f"in brackets: parameters\n{_spread(rows)}", x="top-1 error in %")
    axes.set_yticks(range(len(rows)), [f"{row['title']}  ({row['parameters'] / 1000:.0f} k)" for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    figure.legend(fontsize=8, frameon=False, loc="outside upper right", ncols=2, labelcolor=GREY)
    name_figure(figure, title)
    return figure


def _spread(rows: Sequence[Mapping[str, Any]]) -> str:
    counts = sorted({len(row["seeds"]) for row in rows})
    if counts == [1]:
        return "one run of each"
    return f"bars: ± one standard deviation over {' or '.join(str(n) for n in counts)} runs"

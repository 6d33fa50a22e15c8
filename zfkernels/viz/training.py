"""The learning curve of a training run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from zfkernels.viz.style import COLORS, name_figure, new_figure, plain, whole_ticks

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHARES = {"top-1": "val_top1", "top-5": "val_top5"}


def learning_curve_figure(rows: Sequence[Mapping[str, float]], *, title: str = "") -> Figure:
    """Losses, errors on the validation images and the learning rate, epoch by epoch.

    Args:
        rows: One for each epoch, with the columns of a run's ``learning_curve.csv``.
        title: Network and data set.
    """
    figure = new_figure(8, 2.7)
    epochs = [row["epoch"] for row in rows]
    panels: tuple[tuple[str, dict[str, list[float]]], ...] = (
        ("loss", {"training": [row["train_loss"] for row in rows], "validation": [row["val_loss"] for row in rows]}),
        (
            "error on the validation images in %",
            {name: [100 * (1 - row[column]) for row in rows] for name, column in SHARES.items()},
        ),
        ("learning rate at the epoch's start", {"": [row["learning_rate"] for row in rows]}),
    )
    for axes, (label, lines) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        for n, (name, values) in enumerate(lines.items()):
            axes.plot(epochs, values, marker="o", markersize=3, linewidth=1.4, color=COLORS[n], label=name)
        plain(axes, x="epoch", y=label)
        axes.set_ylim(bottom=0)
        whole_ticks(axes.xaxis)
        if len(lines) > 1:
            axes.legend(fontsize=8, frameon=False)
    name_figure(figure, title)
    return figure

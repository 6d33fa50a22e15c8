"""Tables 4, 5 and 7 and figure 9: accuracy by images per class, and by layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from zfkernels.results import LayerProbe, Transfer
from zfkernels.viz.style import INK, line_style, name_figure, new_figure, plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def transfer_figure(
    results: Mapping[str, Transfer], *, published: Mapping[int, float] | None = None, data: str = ""
) -> Figure:
    """Accuracy against training images per class, a line for each network; bars are the spread over folds.

    Args:
        results: Of each network or classifier, by its name.
        published: Accuracy in percent by images per class, to be drawn beside.
        data: Name of the data set.

    Source: Zeiler & Fergus 2013 (arXiv 1311.2901), figure 9.
    """
    figure = new_figure(5.2, 3.3)
    axes = figure.subplots()
    for n, (name, result) in enumerate(results.items()):
        axes.errorbar(
            result.train_per_class, 100 * result.mean, yerr=100 * result.std, marker="o", markersize=4, capsize=2,
            linewidth=1.4, **line_style(n), label=name,
        )  # fmt: skip
    if published:
        axes.plot(list(published), list(published.values()), "x", color=INK, label="the paper's network")
    plain(axes, title=_title(data, next(iter(results.values()))), x="training images of each class",
          y="mean accuracy of the classes in %")  # fmt: skip
    axes.set_xticks(sorted({int(count) for result in results.values() for count in result.train_per_class}))
    axes.set_ylim(0, 100)
    figure.legend(fontsize=8, frameon=False, loc="outside lower center", labelcolor=INK)
    return figure


def _title(data: str, result: Transfer) -> str:
    folds = result.accuracy.shape[1]
    spread = f"bars: ± one standard deviation over {folds} folds" if folds > 1 else "one fold"
    return f"{data}\n{spread}" if data else spread


def probe_figure(results: Mapping[str, LayerProbe], *, data: str = "") -> Figure:
    """Accuracy against depth, a line for each network and classifier, for the largest number of training images.

    Args:
        results: By name; all of the same layers, or each in a panel of its own.
        data: Name of the data set.

    Source: Zeiler & Fergus 2013 (arXiv 1311.2901), table 7.
    """
    places = {name: n for n, name in enumerate(results)}
    panels: dict[tuple[str, ...], dict[str, LayerProbe]] = {}
    for name, result in results.items():
        panels.setdefault(result.layers, {})[name] = result
    figure = new_figure(max(4.2, sum(1.2 + 0.42 * len(layers) for layers in panels)), 3.4 + 0.2 * len(results))
    ratios = [len(layers) + 1 for layers in panels]
    for axes, (layers, lines) in zip(
        figure.subplots(1, len(panels), squeeze=False, sharey=True, width_ratios=ratios)[0], panels.items(), strict=True
    ):
        for name, result in lines.items():
            mean = [100 * float(transfer.mean[-1]) for transfer in result.transfers]
            std = [100 * float(transfer.std[-1]) for transfer in result.transfers]
            axes.errorbar(range(len(layers)), mean, yerr=std, marker="o", markersize=4, capsize=2, linewidth=1.4,
                          **line_style(places[name]), label=name)  # fmt: skip
        first = axes.get_subplotspec().is_first_col()
        plain(axes, x="layer", y="mean accuracy of the classes in %" if first else "")
        axes.set_xticks(range(len(layers)), layers, rotation=35, ha="right")
        axes.set_ylim(0, 100)
    name_figure(figure, _title(data, next(iter(results.values())).transfers[0]))
    figure.legend(fontsize=8, frameon=False, loc="outside lower center", labelcolor=INK)
    return figure

"""Table 1 as a figure: the distance of each masked part, by layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from zfkernels.results import Correspondence
from zfkernels.viz.style import COLORS, GREY, name_figure, new_figure, plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def correspondence_figure(results: Mapping[str, Correspondence], *, title: str = "") -> Figure:
    """For each network the mean sign distance of each part, with its standard deviation over pairs; parts in colours.

    Args:
        results: Of each network, by its name.
        title: Data set, number of images and size of the mask.

    Source: Zeiler & Fergus 2013 (arXiv 1311.2901), table 1.
    """
    layers = sum(len(result.layers) for result in results.values())
    figure = new_figure(2.2 + 1.15 * max(layers, 3), 3.4 + 0.3 * bool(title))
    panels = figure.subplots(
        1, len(results), squeeze=False, sharey=True, width_ratios=[len(result.layers) for result in results.values()]
    )[0]
    for axes, (name, result) in zip(panels, results.items(), strict=True):
        for p, part in enumerate(result.parts):
            places = [n + 0.13 * (p - (len(result.parts) - 1) / 2) for n in range(len(result.layers))]
            random = result.pairs[part].shape[0] > 1
            color = GREY if random else COLORS[p % len(COLORS)]
            marker = ("D" if part == "random, one place" else "s") if random else "o"
            face = color if not random or part == "random" else "white"
            axes.errorbar(
                places, result.mean(part), yerr=result.std(part), fmt=marker, markersize=4.5,
                mfc=face, color=color, capsize=2, linewidth=1, label=part,
            )  # fmt: skip
        plain(axes, title=f"{name}\n{_spread(result)}" if name else _spread(result), x="layer",
              y="sign distance; lower: more related" if axes is panels[0] else "")  # fmt: skip
        axes.set_xticks(range(len(result.layers)), result.layers, rotation=20, ha="right")
        axes.set_ylim(bottom=0)
    panels[-1].legend(
        fontsize=8, title_fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1, 1), title="masked"
    )
    name_figure(figure, title)
    return figure


def _spread(result: Correspondence) -> str:
    pairs = next(iter(result.pairs.values())).shape[2]
    return f"bars: ± one standard deviation over {pairs} pairs"

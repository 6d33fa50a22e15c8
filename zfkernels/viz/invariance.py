"""Figure 5: images under a transformation, how far their features move, and what the network still says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from zfkernels._extras import require
from zfkernels.results import Invariance
from zfkernels.viz.occlusion import shorten
from zfkernels.viz.style import COLORS, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

AXES = {
    "vertical": "pixels down",
    "horizontal": "pixels to the right",
    "scale": "scale",
    "rotation": "degrees clockwise",
    "brightness": "brightness",
}
SHOWN = 5  # images with a line and a strip of their own, as in the paper
STRIP = 4  # transformed pictures of each


def invariance_figure(
    results: Sequence[Invariance],
    strips: Mapping[str, Tensor],
    names: Sequence[str],
) -> Figure:
    """A row for each transformation: pictures, the distance at each layer, and the probability of the class.

    Thin coloured lines are the first ``SHOWN`` images, the black one is the mean of all.

    Args:
        results: One for each transformation, all of the same images and layers.
        strips: Of each transformation uint8 [SHOWN or fewer, STRIP, 3, H, W], the pictures to show.
        names: Of the images.

    Source: Zeiler & Fergus 2013 (arXiv 1311.2901), figure 5.
    """
    layers = results[0].layers
    columns = len(layers) + 1
    figure = require("matplotlib.figure", "viz").Figure(
        figsize=(2.4 + 2.6 * columns, 2.5 * len(results)), layout="constrained"
    )
    grid = figure.subplots(len(results), columns + 1, squeeze=False, width_ratios=[0.85] + [1] * columns)
    for line, result in zip(grid, results, strict=True):
        _strip_panel(line[0], strips[result.transform], f"{result.transform}: {_range(result)}")
        for n, layer in enumerate(layers):
            _curves(line[1 + n], result, result.relative[:, n], names)
            plain(line[1 + n], title=f"distance, {layer}", x=AXES[result.transform])
            line[1 + n].set_ylim(bottom=0)
        _curves(line[-1], result, result.probability.double(), names)
        plain(line[-1], title="probability of the class", x=AXES[result.transform])
        line[-1].set_ylim(0, 1.02)
    handles, labels = grid[0][1].get_legend_handles_labels()
    legend = figure.legend(handles, labels, loc="outside lower center", ncols=6, fontsize=7.5, frameon=False)
    for text in legend.get_texts():
        text.set_parse_math(False)
    return figure


def _range(result: Invariance) -> str:
    return f"{float(result.amounts[0]):g} to {float(result.amounts[-1]):g}"


def _curves(axes: Axes, result: Invariance, values: Tensor, names: Sequence[str]) -> None:
    for n in range(min(SHOWN, values.shape[1])):
        axes.plot(result.amounts, values[:, n], color=COLORS[n], linewidth=1, label=shorten(names[n]))
    axes.plot(result.amounts, values.mean(1), color="#18181b", linewidth=2, label=f"mean of {values.shape[1]} images")


def _strip_panel(axes: Axes, pictures: Tensor, title: str) -> None:
    rows, columns, _, height, width = pictures.shape
    mosaic = pictures.permute(0, 3, 1, 4, 2).reshape(rows * height, columns * width, 3)
    axes.imshow(mosaic.cpu().numpy(), aspect="equal")
    axes.set_title(title, fontsize=9, loc="left")
    axes.set_axis_off()
    for n in range(rows):
        axes.plot([-0.02 * width * columns] * 2, [n * height + 2, (n + 1) * height - 2], color=COLORS[n], linewidth=3,
                  clip_on=False)  # fmt: skip
    axes.set(xlim=(-0.04 * width * columns, columns * width), ylim=(rows * height, 0))

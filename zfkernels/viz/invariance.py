"""Figure 5: images under a transformation, how far their features move, and what the network still says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from zfkernels.results import Invariance
from zfkernels.viz.style import COLORS, INK, name_figure, new_figure, plain, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

AXES = {
    "vertical": "moved down, in pixels",
    "horizontal": "moved to the right, in pixels",
    "scale": "enlarged, by a factor",
    "rotation": "turned clockwise, in degrees",
    "brightness": "brightness; 1: the photo's",
}
SHOWN = 5  # images with a line and a strip of their own, as in the paper
STRIP = 4  # transformed pictures of each


def invariance_figure(
    results: Sequence[Invariance],
    strips: Mapping[str, Tensor],
    names: Sequence[str],
    *,
    class_names: Sequence[str] = (),
    title: str = "",
) -> Figure:
    """A row for each transformation: pictures, the distance at each layer, and the probability of the class.

    Thin coloured lines are the first ``SHOWN`` images, the black one is the mean of all. Distances are in units of that
    between two images, on one scale for all panels; of a single image as they are.

    Args:
        results: One for each transformation, all of the same images and layers.
        strips: Of each transformation uint8 [SHOWN or fewer, STRIP, 3, H, W], the pictures to show; empty: none.
        names: Of the images.
        class_names: Of the classes; the legend then says which class of each image is meant.
        title: Network, data set and number of images.

    Source: Zeiler & Fergus 2013 (arXiv 1311.2901), figure 5.
    """
    layers = results[0].layers
    panels = len(layers) + 1
    shown = bool(strips)
    figure = new_figure(0.4 + 1.9 * shown + 2.1 * panels, 0.9 + 0.3 * bool(title) + 2.2 * len(results))
    grid = figure.subplots(len(results), panels + shown, squeeze=False, width_ratios=[0.85] * shown + [1] * panels)
    compared = all(bool(result.reference.isfinite().all()) for result in results)
    distances = [result.relative if compared else result.distance for result in results]
    drawn = [torch.cat([values[:, :, :SHOWN], values.mean(2, keepdim=True)], 2) for values in distances]
    highest = 1.05 * max(float(values.max()) for values in drawn) or 1.0
    for line, result, values in zip(grid, results, distances, strict=True):
        if shown:
            _strip_panel(line[0], strips[result.transform], f"{result.transform}: {_range(result)}")
        curves = line[shown:]
        labels = [_label(n, result, names, class_names) for n in range(min(SHOWN, values.shape[2]))]
        for n, layer in enumerate(layers):
            _curves(curves[n], result, values[:, n], labels)
            plain(curves[n], title=f"distance, {shorten(layer)}", x=AXES[result.transform])
            curves[n].set_ylim(0, highest)
        curves[0].set_ylabel("1: as another image" if compared else "Euclidean distance", fontsize=8.5)
        _curves(curves[-1], result, result.probability.double(), labels)
        plain(curves[-1], title="probability of the class", x=AXES[result.transform])
        curves[-1].set_ylim(0, 1.02)
    handles, labels = grid[0][-1].get_legend_handles_labels()
    columns = max(1, int(figure.get_figwidth() / 3.1))
    legend = figure.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize=8, frameon=False)
    for text in legend.get_texts():
        text.set_parse_math(False)
    name_figure(figure, title)
    return figure


def _label(n: int, result: Invariance, names: Sequence[str], class_names: Sequence[str]) -> str:
    number = int(result.targets[n])
    meant = shorten(class_names[number], 18) if number < len(class_names) else f"class {number}"
    return f"{shorten(names[n])} ({meant})"


def _range(result: Invariance) -> str:
    return f"{float(result.amounts[0]):g} to {float(result.amounts[-1]):g}"


def _curves(axes: Axes, result: Invariance, values: Tensor, labels: Sequence[str]) -> None:
    for n, label in enumerate(labels):
        axes.plot(result.amounts, values[:, n], color=COLORS[n], linewidth=1, label=label)
    axes.plot(result.amounts, values.mean(1), color=INK, linewidth=2, label=f"mean of {values.shape[1]} images")


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

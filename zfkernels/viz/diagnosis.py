"""Figure 6: the first layers of networks side by side, and what is wrong with them in numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from zfkernels.results import Diagnosis
from zfkernels.viz.style import ALARM, COLORS, line_style, name_figure, new_figure, plain, shorten, whole_ticks
from zfkernels.viz.tiles import stretch_projections, tile_board

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BANDS = ("low", "middle", "high")
# Where a legend lies: under the panel and what is written there.
BELOW: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (0, -0.28), "borderaxespad": 0}


def diagnosis_figure(results: Mapping[str, Diagnosis], *, title: str = "") -> Figure:
    """A row for each network: its first-layer filters, their frequencies, what aliases, activity of all layers.

    Filters are stretched one by one and sorted by their root mean square; dead ones have an orange frame.

    Args:
        results: Of each network, by its name.
        title: Data set and number of images.

    Source: Zeiler & Fergus 2013 (arXiv 1311.2901), figure 6.
    """
    figure = new_figure(13, 0.3 * bool(title) + 3.5 * len(results))
    grid = figure.subplots(len(results), 4, squeeze=False, width_ratios=[1.05, 1, 1, 1])
    for line, (name, result) in zip(grid, results.items(), strict=True):
        _filter_panel(line[0], result, name)
        _band_panel(line[1], result)
        _aliasing_panel(line[2], result)
        _activity_panel(line[3], result)
    name_figure(figure, title)
    return figure


def _filter_panel(axes: Axes, result: Diagnosis, name: str) -> None:
    filters = result.filters
    first = result.layers[0]
    order = first.rms.argsort(descending=True)
    shown = stretch_projections(filters[order].float()) if filters.shape[1] == 3 else _grey(filters[order])
    count, _, height, width = shown.shape
    columns = math.ceil(math.sqrt(count * 1.3))
    axes.imshow(tile_board(shown, columns).permute(1, 2, 0).numpy(), interpolation="nearest")
    for n in first.dead[order].nonzero().flatten().tolist():
        top, left = n // columns * (height + 1), n % columns * (width + 1)
        xs, ys = (left - 0.8, left + width - 0.2), (top - 0.8, top + height - 0.2)
        across, down = (xs[0], xs[1], xs[1], xs[0], xs[0]), (ys[0], ys[0], ys[1], ys[1], ys[0])
        axes.plot(across, down, color=ALARM, linewidth=1.2)
    axes.set_axis_off()
    size = "x".join(str(n) for n in filters.shape[2:])
    dead = f"; {int(first.dead.sum())} dead (framed)" if first.dead.any() else ""
    title = f"{shorten(name, 30)}\n{count} filters, {size}/{result.stride[0]}{dead}"
    axes.set_title(title.strip(), fontsize=9, loc="left", parse_math=False)


def _grey(filters: Tensor) -> Tensor:
    return stretch_projections(filters.float().mean(1, keepdim=True).expand(-1, 3, -1, -1))


def _band_panel(axes: Axes, result: Diagnosis) -> None:
    """Each filter's shares, sorted by the middle one."""
    order = result.bands[:, 1].argsort()
    bottom = torch.zeros(len(order), dtype=torch.float64)
    for n, band in enumerate(BANDS):
        share = 100 * result.bands[order, n]
        label = f"{band}: {100 * float(result.power_by_band[n]):.0f} % (noise {100 * float(result.flat[n]):.0f})"
        axes.bar(range(len(order)), share, bottom=bottom, width=1, color=COLORS[n], label=label)
        bottom += share
    plain(axes, title="power by frequency in %,\none bar per filter", x="filters, by their middle share")
    axes.set(ylim=(0, 100), xlim=(-0.5, len(order) - 0.5))
    axes.legend(fontsize=8, frameon=False, **BELOW)


def _aliasing_panel(axes: Axes, result: Diagnosis) -> None:
    axes.hist(100 * result.aliased.numpy(), bins=[5.0 * n for n in range(21)], color=COLORS[0])
    axes.axvline(100 * float(result.aliased.mean()), color=ALARM, linewidth=1.4)
    plain(
        axes,
        title=f"power beyond the stride:\nmean {100 * float(result.aliased.mean()):.0f} % (line)",
        x="of a first-layer map's power, in %",
        y="maps",
    )
    whole_ticks(axes.yaxis)


def _activity_panel(axes: Axes, result: Diagnosis) -> None:
    for n, layer in enumerate(result.layers):
        share = layer.active.sort(descending=True).values
        places = torch.linspace(0, 100, len(share))
        label = f"{shorten(layer.layer, 16)}: {int(layer.dead.sum())}/{len(share)} dead"
        axes.plot(places, 100 * share, **line_style(n), linewidth=1.4, label=label)
    plain(axes, title="images in which a map\nis active, in %", x="maps, most active first, in %")
    axes.set_ylim(-2, 103)
    columns = -(-len(result.layers) // 18)
    axes.legend(fontsize=8, frameon=False, ncols=columns, loc="upper left", bbox_to_anchor=(1, 1), borderaxespad=0)

"""Panels that figures of occlusion share: a photo, values over it, the class at each place."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from zfkernels._extras import require
from zfkernels.viz.style import INK, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage

# Of the classes in the order of their share of the places, and of the rest together.
CLASS_COLORS = ("#0072b2", "#e69f00", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#f0e442")
OTHER_COLOR = "#cfcfd4"
EFFECT = "RdBu"  # red: lower than with nothing hidden


def show_picture(
    axes: Axes,
    pixels: Tensor,  # uint8 [3, H, W]
) -> None:
    """A picture in its own pixels as coordinates."""
    height, width = pixels.shape[1:]
    axes.imshow(pixels.permute(1, 2, 0).cpu().numpy(), interpolation="bicubic", extent=(0, width, height, 0))
    axes.set_axis_off()


def frame(axes: Axes, top: float, left: float, height: float, width: float) -> None:
    """A rectangle that can be seen on light and dark."""
    patches = require("matplotlib.patches", "viz")
    for color, line in (("black", 2.4), ("white", 1.2)):
        axes.add_patch(patches.Rectangle((left, top), width, height, fill=False, color=color, linewidth=line))


def caption(axes: Axes, text: str) -> None:
    """What a panel shows, above it; names in it are no formulas."""
    axes.set_title(text, fontsize=8.5, loc="left", pad=4, color=INK, parse_math=False)


def effect_panel(
    axes: Axes,
    pixels: Tensor | None,  # uint8 [3, H, W]
    values: Tensor,  # [rows, cols]
    clean: float,
    positions: Tensor,
    window: tuple[int, int],
    label: str,
) -> None:
    """What becomes of a value at each place of the square, in colours centred on the value with nothing hidden.

    A difference has the same strength of colour upwards and downwards; the bar ends where the values end, and a black
    line on it marks the value with nothing hidden.
    """
    low, high = min(float(values.min()), clean), max(float(values.max()), clean)
    reach = max(clean - low, high - clean) or max(abs(clean), 1.0) * 1e-3
    norm = require("matplotlib.colors", "viz").Normalize(clean - reach, clean + reach)
    heat = lay_over(axes, pixels, values, positions, window, cmap=EFFECT, norm=norm)
    bar = _bar(axes, heat, label)
    bar.set_ylim(*((low, high) if high > low else (clean - reach, clean + reach)))
    bar.axhline(clean, color="black", linewidth=2.2)


def heat_panel(
    axes: Axes,
    pixels: Tensor | None,
    values: Tensor,  # [rows, cols]
    positions: Tensor,
    window: tuple[int, int],
    label: str,
) -> None:
    """Values without a middle of their own, such as a map's activity, over their own range."""
    _bar(axes, lay_over(axes, pixels, values, positions, window, cmap="viridis"), label)


def _bar(axes: Axes, heat: AxesImage, label: str) -> Axes:
    bar: Axes = axes.inset_axes((1.03, 0, 0.045, 1))
    axes.figure.colorbar(heat, cax=bar)
    bar.tick_params(labelsize=8, length=2)
    bar.set_ylabel(label, fontsize=8)
    bar.yaxis.set_major_locator(require("matplotlib.ticker", "viz").MaxNLocator(4))
    return bar


def classes_panel(
    axes: Axes,
    pixels: Tensor | None,
    best: Tensor,  # int [rows, cols]
    positions: Tensor,
    window: tuple[int, int],
    name: Callable[[int], str],
) -> None:
    """A colour for each class that is somewhere the most probable, and a legend with its share of the places."""
    colors, patches = require("matplotlib.colors", "viz"), require("matplotlib.patches", "viz")
    classes, counts = best.flatten().unique(return_counts=True)
    order = counts.argsort(descending=True, stable=True)
    shown = order[: len(CLASS_COLORS)]
    palette = (*CLASS_COLORS[: len(shown)], OTHER_COLOR)
    color_of = torch.full((int(classes.max()) + 1,), len(shown))
    color_of[classes[shown]] = torch.arange(len(shown))
    lay_over(axes, pixels, color_of[best], positions, window, cmap=colors.ListedColormap(palette), vmin=-0.5,
             vmax=len(palette) - 0.5)  # fmt: skip
    labels = [f"{shorten(name(int(classes[n])))}, {share(int(counts[n]), best.numel())}" for n in shown]
    if len(order) > len(shown):
        rest = int(counts[order[len(shown) :]].sum())
        labels.append(f"{len(order) - len(shown)} others, {share(rest, best.numel())}")
    handles = [patches.Patch(color=color, label=label) for color, label in zip(palette, labels, strict=False)]
    legend = axes.legend(
        handles=handles, loc="upper left", bbox_to_anchor=(1.02, 1), borderaxespad=0, fontsize=8, frameon=False
    )
    for text in legend.get_texts():
        text.set_parse_math(False)


def share(count: int, total: int) -> str:
    """A share in whole percents; what is not nothing is not 0 %, and what is not all is not 100 %."""
    percent = round(100 * count / total)
    if percent == 0 and count > 0:
        return "<1%"
    return ">99%" if percent == 100 and count < total else f"{percent}%"


def lay_over(
    axes: Axes,
    pixels: Tensor | None,  # uint8 [3, H, W]
    values: Tensor,  # [rows, cols]
    positions: Tensor,  # int [rows, cols, 2]
    window: tuple[int, int],
    **options: Any,
) -> AxesImage:
    """Values over the edges of a picture, each as a cell around the middle of its square."""
    edges = []
    for axis, length in ((0, len(positions)), (1, len(positions[0]))):
        first, last = positions[0, 0, axis].item(), positions[-1, -1, axis].item()
        half_step = (last - first) / max(1, length - 1) / 2 or window[axis] / 2
        edges.append((first + window[axis] / 2 - half_step, last + window[axis] / 2 + half_step))
    (top, bottom), (left, right) = edges
    image = axes.imshow(
        values.float().cpu().numpy(), interpolation="nearest", extent=(left, right, bottom, top), **options
    )
    if pixels is not None:
        _outline(axes, pixels)
        axes.set(xlim=(0, pixels.shape[2]), ylim=(pixels.shape[1], 0))
    axes.set_axis_off()
    return image


def _outline(axes: Axes, pixels: Tensor) -> None:
    """The edges of a picture in transparent black over whatever is there."""
    height, width = pixels.shape[1:]
    down, across = np.gradient(pixels.float().mean(0).cpu().numpy())
    edges = np.hypot(down, across)
    alpha = 0.5 * np.clip(edges / max(float(np.quantile(edges, 0.98)), 1e-6), 0, 1)
    black = np.zeros((height, width, 3), np.float32)
    axes.imshow(np.dstack([black, alpha]), interpolation="bicubic", extent=(0, width, height, 0))

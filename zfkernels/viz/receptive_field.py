"""Empirical receptive fields of maps: where hiding a part of the image lowers them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from zfkernels._extras import require
from zfkernels.viz.panels import EFFECT, caption, lay_over
from zfkernels.viz.style import INK, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = 6


def receptive_field_figure(
    fields: Tensor,  # [U, rows, cols]
    window: int | tuple[int, int],
    stride: int | tuple[int, int],
    *,
    names: Sequence[str] = (),
    title: str = "",
) -> Figure:
    """What ``zfkernels.occlusion.empirical_receptive_field`` returned, a panel for each map, all with one scale.

    Args:
        fields: The share that hiding each place takes away; NaN for a map that no image excites.
        window: Of the square, in pixels.
        stride: Of the grid, in pixels.
        names: Of the maps; "map 0", "map 1", … if not given.
        title: Of the figure.

    Raises:
        ValueError: ``fields`` of another shape, or names of another number.
    """
    if fields.dim() != 3 or not len(fields):
        raise ValueError(f"receptive_field_figure: expected fields [U, rows, cols], got {tuple(fields.shape)}")
    if names and len(names) != len(fields):
        raise ValueError(f"receptive_field_figure: expected names of {len(fields)} maps, got {len(names)}")
    high, wide = (window, window) if isinstance(window, int) else window
    down, across = (stride, stride) if isinstance(stride, int) else stride
    axes_of = [torch.arange(count) * step for count, step in zip(fields.shape[1:], (down, across), strict=True)]
    positions = torch.stack(torch.meshgrid(*axes_of, indexing="ij"), -1)
    columns = min(COLUMNS, len(fields))
    rows = -(-len(fields) // columns)
    figure = new_figure(1.7 * columns + 0.9, 1.85 * rows + 0.35)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    reach = float(fields.nan_to_num(0).abs().max()) or 1.0
    norm = require("matplotlib.colors", "viz").Normalize(-reach, reach)
    image: Any = None
    for n, (axes, field) in enumerate(zip(panels, fields, strict=False)):
        image = lay_over(axes, None, field, positions, (high, wide), cmap=f"{EFFECT}_r", norm=norm)
        name = names[n] if names else f"map {n}"
        caption(axes, f"{name}: not excited" if bool(field.isnan().all()) else name)
    for axes in panels[len(fields) :]:
        axes.set_axis_off()
    bar = figure.colorbar(image, ax=list(panels), shrink=0.8)
    bar.set_label("share taken away (red: hiding lowers it)", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    if title:
        figure.suptitle(title, fontsize=9, color=INK, parse_math=False)
    return figure

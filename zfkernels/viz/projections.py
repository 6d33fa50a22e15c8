"""``Projections.plot``: projections beside the patches that they lie in, a row for each image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from zfkernels.results import Projections
from zfkernels.viz.panels import caption, show_picture
from zfkernels.viz.pixels import true_colors
from zfkernels.viz.style import INK, line_style, new_figure, shorten
from zfkernels.viz.tiles import stretch_projections

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROWS = 8  # images of one figure


def projections_figure(
    result: Projections,
    images: Tensor | None,  # [N, C, H, W]
    *,
    count: int = 9,
    preprocess: Any = None,
    names: Sequence[str] = (),
) -> Figure:
    """See ``Projections.plot``; of more than ``ROWS`` images the first ones are shown, and the figure says so.

    Raises:
        TypeError: Images that are no tensor.
        ValueError: No projections, a count below 1, or fewer images or names than the projections' images.
    """
    if len(result) == 0 or count < 1:
        raise ValueError(f"plot: expected at least one projection to show, got {len(result)} and count {count}")
    seen = result.image.unique().tolist()
    pixels, note = (None, "") if images is None else true_colors(images, result.look, preprocess)
    for what, given in (("images", images), ("names", names or None)):
        if given is not None and len(given) <= seen[-1]:
            raise ValueError(f"plot: expected {what} of at least {seen[-1] + 1} images, got {len(given)}")
    shown = seen[:ROWS]
    chosen = [_strongest(result, image, count) for image in shown]
    tiles, lines = max(map(len, chosen)), 1 if pixels is None else 2
    figure = new_figure(0.4 + 1.9 * (pixels is not None) + 0.95 * tiles, len(shown) * (0.35 + 1.0 * lines) + 0.2)
    ratios = [2.1] * (pixels is not None) + [1.0] * tiles
    grid = figure.add_gridspec(lines * len(shown), len(ratios), width_ratios=ratios)
    for n, (image, units) in enumerate(zip(shown, chosen, strict=True)):
        top = lines * n
        if pixels is not None:
            axes = figure.add_subplot(grid[top : top + 2, 0])
            show_picture(axes, pixels[image])
            for k, unit in enumerate(units):
                _frame(axes, result.receptive_field[unit], k)
            caption(axes, f"{shorten(names[image] if names else f'image {image}', 20)}{'; ' + note if note else ''}")
        for k, unit in enumerate(units):
            axes = figure.add_subplot(grid[top, k + (pixels is not None)])
            _tile(axes, _projection(result, unit), None if pixels is None else k)
            caption(axes, f"map {int(result.channel[unit])}\n{float(result.activation[unit]):.3g}")
            if k == 0:
                axes.set_ylabel("projection", fontsize=8, color=INK)
            if pixels is not None:
                y0, x0, y1, x1 = result.receptive_field[unit].tolist()
                axes = figure.add_subplot(grid[top + 1, k + 1])
                _tile(axes, pixels[image][:, y0:y1, x0:x1], k)
                if k == 0:
                    axes.set_ylabel("patch", fontsize=8, color=INK)
    left = f"the first {ROWS} of {len(seen)} images; " if len(seen) > ROWS else ""
    framed = "" if pixels is None else "; a frame's colour: its place in the photo"
    figure.supxlabel(f"{left}{result.layer}: activation of each map; grey in a projection is zero{framed}", fontsize=8)
    return figure


def _strongest(result: Projections, image: int, count: int) -> list[int]:
    here = (result.image == image).nonzero().flatten()
    order = result.activation[here].argsort(descending=True, stable=True)
    return here[order[:count]].tolist()


def _projection(result: Projections, unit: int) -> Tensor:  # uint8 [3, h, w]
    y0, x0, y1, x1 = result.receptive_field[unit].tolist()
    values = result.one(unit)[:, y0:y1, x0:x1].float().cpu()
    colors = values if len(values) == 3 else values.mean(0, keepdim=True).expand(3, -1, -1)
    return stretch_projections(colors[None])[0]


def _tile(axes: Axes, pixels: Tensor, number: int | None) -> None:
    """Draws a tile. ``number``: its frame has the colour of the photo's frame with this number; None: no frame."""
    axes.imshow(pixels.permute(1, 2, 0).numpy(), interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_visible(number is not None)
        if number is not None:
            spine.set(**line_style(number), linewidth=1.4)


def _frame(axes: Axes, field: Tensor, number: int) -> None:
    """Frames a part of the photo, in the colour of ``number`` over a wider white line."""
    top, left, bottom, right = field.tolist()
    across, down = (left, right, right, left, left), (top, top, bottom, bottom, top)
    axes.plot([x - 0.5 for x in across], [y - 0.5 for y in down], color="white", linewidth=2.6, clip_on=False)
    axes.plot([x - 0.5 for x in across], [y - 0.5 for y in down], **line_style(number), linewidth=1.4, clip_on=False)

"""``OcclusionMap.plot``: what hiding each place does, a row for each image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from zfkernels.results import OcclusionMap
from zfkernels.viz.panels import caption, classes_panel, effect_panel, frame, heat_panel, show_picture
from zfkernels.viz.pixels import true_colors
from zfkernels.viz.style import new_figure, shorten

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROWS = 12  # images of one figure


def occlusion_map_figure(
    result: OcclusionMap,
    images: Tensor | None,  # [N, C, H, W]
    classes: Tensor,  # int64 [N]
    *,
    preprocess: Any = None,
    names: Sequence[str] = (),
) -> Figure:
    """See ``OcclusionMap.plot``; of more than ``ROWS`` images the first ones are shown, and the figure says so.

    Raises:
        TypeError: Images that are no tensor.
        ValueError: Images or names of another number, or positions that are no grid.
    """
    count = len(result.outputs)
    if result.positions.dim() != 3:
        raise ValueError(f"plot: expected a sweep over a grid, got {len(result.positions)} single positions")
    pixels, note = (None, "") if images is None else true_colors(images, result.look, preprocess)
    for what, given in (("images", images), ("names", names or None)):
        if given is not None and len(given) != count:
            raise ValueError(f"plot: expected {what} of the sweep's {count} images, got {len(given)}")
    many = result.outputs.shape[-1] > 1
    parts = [pixels is not None, True, many, result.strongest_activity is not None]
    rows = min(count, ROWS)
    figure = new_figure(0.5 + 2.05 * parts[0] + 2.75 * parts[1] + 3.6 * parts[2] + 2.75 * parts[3], 0.2 + 2.35 * rows)
    ratios = [ratio for ratio, used in zip((2.0, 2.6, 3.5, 2.6), parts, strict=True) if used]
    grid = figure.subplots(rows, len(ratios), squeeze=False, width_ratios=ratios)
    best_of = "most probable class" if result.targets is None else "largest of the targets"
    what, values = result.shown_values(classes)
    clean, best = result.clean_values(classes), result.best_class().cpu()
    for n in range(rows):
        panels = iter(grid[n])
        picture = None if pixels is None else pixels[n]
        title = names[n] if names else f"image {n}" if count > 1 else "image"
        if picture is not None:
            axes = next(panels)
            show_picture(axes, picture)
            top, left = result.positions.flatten(0, 1)[values[n].argmin()].tolist()
            frame(axes, top, left, *result.window)
            caption(axes, f"{shorten(title, 22)}\nframe: lowest{'; ' + note if note else ''}")
        axes = next(panels)
        effect_panel(axes, picture, values[n], float(clean[n]), result.positions, result.window, what)
        caption(
            axes,
            f"{shorten(result.look.name(int(classes[n])))}: {float(clean[n]):.3g}\nwith nothing hidden: black line",
        )
        if many:
            axes = next(panels)
            classes_panel(axes, picture, best[n], result.positions, result.window, result.look.name)
            caption(axes, f"{best_of},\nshare of the places")
        if result.strongest_activity is not None and result.channel is not None:
            axes = next(panels)
            heat_panel(axes, picture, result.strongest_activity[n], result.positions, result.window, "activity")
            caption(axes, f"map {int(result.channel[n])}:\nsum of its values")
    if count > rows:
        figure.supxlabel(f"the first {rows} of {count} images", fontsize=8)
    return figure

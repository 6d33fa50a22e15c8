"""Whether a reader can see all of a figure: nothing written lies over other writing, and nothing is cut off."""

from __future__ import annotations

from itertools import combinations

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

SLACK = 1.0  # pixel of a box that may be shared: the boxes of letters are rounded up


def drawn(figure: Figure) -> list[tuple[Text, Axes | None]]:
    """All writing that a reader sees, after the layout, and the axes that it belongs to."""
    FigureCanvasAgg(figure).draw()
    found: list[tuple[Text | None, Axes | None]] = [
        *((text, None) for text in figure.texts),
        *((text, None) for legend in figure.legends for text in legend.get_texts()),
    ]
    for axes in all_axes(figure):
        legend = axes.get_legend()
        own: list[Text | None] = [axes.title, axes._left_title, axes._right_title, *axes.texts]
        own += [] if legend is None else [*legend.get_texts(), legend.get_title()]
        for axis in (axes.xaxis, axes.yaxis) if axes.axison else ():
            ticks = axis._update_ticks() if axis.get_visible() else []  # those that matplotlib draws
            own += [axis.label, axis.offsetText, *(label for tick in ticks for label in (tick.label1, tick.label2))]
        found += [(text, axes) for text in own]
    return [(text, axes) for text, axes in found if text and text.get_visible() and text.get_text().strip()]


def all_axes(figure: Figure) -> list[Axes]:
    """The panels and what is set into them, such as bars of colours."""
    return [axes for panel in figure.axes for axes in (panel, *panel.child_axes) if axes.get_visible()]


def problems(figure: Figure) -> list[str]:
    """Writing that overlaps, writing that is cut, panels that lie over each other or over writing; in words."""
    written = [(text.get_text(), text.get_window_extent(), axes) for text, axes in drawn(figure)]
    panels = [(f"panel {n}", axes.get_window_extent(), axes) for n, axes in enumerate(all_axes(figure))]
    found = [f"{name!r} is cut off" for name, box, _ in (*written, *panels) if not _inside(box, figure.bbox)]
    found += [f"{a!r} lies over {b!r}" for (a, x, _), (b, y, _) in combinations(written, 2) if _overlap(x, y)]
    found += [f"{a} lies over {b}" for (a, x, _), (b, y, _) in combinations(panels, 2) if _overlap(x, y)]
    for text, box, home in written:
        others = [(name, panel) for name, panel, axes in panels if axes is not home]
        found += [f"{text!r} lies over {name}" for name, panel in others if _overlap(box, panel)]
    return found


def smallest_letters(figure: Figure) -> float:
    """The smallest size of letters, in points, if the figure is printed 7 inches wide, or as it is where narrower."""
    return min(1.0, 7 / figure.get_figwidth()) * min(text.get_fontsize() for text, _ in drawn(figure))


def _inside(box: Bbox, page: Bbox) -> bool:
    return bool(
        box.x0 >= page.x0 - SLACK and box.y0 >= page.y0 - SLACK
        and box.x1 <= page.x1 + SLACK and box.y1 <= page.y1 + SLACK
    )  # fmt: skip


def _overlap(a: Bbox, b: Bbox) -> bool:
    width, height = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
    return bool(width > SLACK and height > SLACK)

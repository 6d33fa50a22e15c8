"""A store of sweeps in one figure: where hiding hurts, on average and for each of the commonest classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from zfkernels._extras import require
from zfkernels.viz.panels import EFFECT, caption
from zfkernels.viz.style import COLORS, INK, new_figure, plain, shorten

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLASSES, COLUMNS = 10, 4


class Means(Protocol):
    """What ``zfkernels.store.means.ClassMeans`` has."""

    @property
    def labels(self) -> list[str]: ...

    @property
    def counts(self) -> np.ndarray: ...

    @property
    def drop(self) -> np.ndarray: ...

    @property
    def largest(self) -> np.ndarray: ...

    @property
    def mean(self) -> np.ndarray: ...


def store_figure(
    means: Means, dims: Sequence[str], positions: np.ndarray, *, boxes: np.ndarray | None, name: str
) -> Figure:
    """The mean drop of all images, of the ten labels with most images, and each image's largest drop.

    Fills and maps are averaged. Places that are no grid are painted as boxes, the mean where they overlap.

    Args:
        means: Of the labels; ``drop`` is [L, *dims].
        dims: Names of the dimensions of a drop.
        positions: int [rows, cols, 2] or [P, 2], the square's first pixels.
        boxes: int [P, 4], of places that are no grid of squares.
        name: Of the data.
    """
    others = tuple(n + 1 for n, dim in enumerate(dims) if dim not in ("row", "column", "place"))
    drop, mean = means.drop.mean(others), means.mean.mean(tuple(axis - 1 for axis in others))
    order = np.argsort(-means.counts, kind="stable")[:CLASSES]
    pictures = [("all", int(means.counts.sum()), mean)]
    if len(means.labels) > 1:
        pictures += [(means.labels[n], int(means.counts[n]), drop[n]) for n in order]
    rows = -(-(len(pictures) + 1) // COLUMNS)
    columns = min(COLUMNS, len(pictures) + 1)
    figure = new_figure(2.3 * columns + 0.6, 2.45 * rows + 0.4)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    reach = max(float(np.abs(picture).max()) for *_, picture in pictures) or 1.0
    norm = require("matplotlib.colors", "viz").Normalize(-reach, reach)
    image: Any = None
    for axes, (label, count, picture) in zip(panels, pictures, strict=False):
        shown = picture if picture.ndim == 2 else painted(picture, positions, boxes)
        image = axes.imshow(shown, cmap=f"{EFFECT}_r", norm=norm, interpolation="nearest")
        axes.set_xticks([])
        axes.set_yticks([])
        caption(axes, f"{shorten(label, 20)}\n{count:,} {'image' if count == 1 else 'images'}")
    figure.colorbar(image, ax=list(panels[: len(pictures)]), shrink=0.7, label="mean drop (red: hiding hurts)")
    last = panels[len(pictures)]
    last.hist(means.largest, bins=min(20, max(5, len(means.largest) // 4)), color=COLORS[0])
    plain(last, title="each image's largest drop", x="clean − hidden", y="images")
    last.yaxis.set_major_locator(require("matplotlib.ticker", "viz").MaxNLocator(4, integer=True))
    for axes in panels[len(pictures) + 1 :]:
        axes.set_axis_off()
    omitted = len(means.labels) - len(order)
    note = f"; the {CLASSES} of {len(means.labels)} labels with most images" if omitted > 0 else ""
    figure.suptitle(f"{shorten(name, 60)}{note}", fontsize=9, color=INK, parse_math=False)
    return figure


def painted(
    values: np.ndarray,  # [P]
    positions: np.ndarray,  # int [P, 2]
    boxes: np.ndarray | None,  # int [P, 4]
) -> np.ndarray:
    """Values as a picture [H, W]: in each pixel the mean of those whose box holds it, NaN where there is none."""
    if boxes is None:
        boxes = np.concatenate([positions, np.ones_like(positions)], 1)
    first = np.maximum(boxes[:, :2], 0)
    last = boxes[:, :2] + boxes[:, 2:]
    height, width = last.max(0)
    total, count = np.zeros((height, width)), np.zeros((height, width))
    for value, (top, left), (bottom, right) in zip(values, first, last, strict=True):
        total[top:bottom, left:right] += value
        count[top:bottom, left:right] += 1
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)

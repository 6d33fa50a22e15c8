"""The figures of a store and of empirical receptive fields: readable, and of the values given."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("matplotlib")

from support.figures import problems

from zfkernels.store.means import ClassMeans
from zfkernels.viz import receptive_field_figure, store_figure
from zfkernels.viz.store import painted


def means(labels: int, *shape: int) -> ClassMeans:
    generator = np.random.default_rng(0)
    names = [f"a class with a long name, number {n}" for n in range(labels)]
    drops = [(names[n % labels], generator.normal(size=shape)) for n in range(3 * labels)]
    return ClassMeans.of(drops)


@pytest.mark.parametrize(
    ("labels", "dims", "shape"),
    [
        (1, ("row", "column"), (9, 9)),
        (3, ("fill", "row", "column"), (2, 9, 7)),
        (14, ("row", "column", "unit"), (9, 9, 4)),
        (2, ("place",), (5,)),
    ],
)
def test_a_store(labels: int, dims: tuple[str, ...], shape: tuple[int, ...]) -> None:
    positions = np.zeros((5, 2), np.int64) if dims == ("place",) else np.zeros((9, 9, 2), np.int64)
    boxes = np.array([[0, 0, 8, 8], [4, 4, 8, 8], [16, 0, 4, 4], [0, 16, 4, 4], [16, 16, 4, 4]])
    found = means(labels, *shape)
    figure = store_figure(found, dims, positions, boxes=boxes if dims == ("place",) else None, name="caltech-101.zip")
    assert problems(figure) == []
    (first,) = figure.axes[0].images
    axes = tuple(n for n, dim in enumerate(dims) if dim in ("fill", "unit"))
    expected = found.mean.mean(axes) if axes else found.mean
    shown = np.ma.filled(first.get_array(), np.nan)
    np.testing.assert_allclose(shown, expected if dims != ("place",) else painted(expected, positions, boxes))


def test_overlapping_boxes_are_averaged() -> None:
    boxes = np.array([[0, 0, 2, 2], [1, 1, 2, 2], [-1, 3, 2, 1]])
    shown = painted(np.array([1.0, 3.0, 5.0]), boxes[:, :2], boxes)
    expected = np.array([[1, 1, np.nan, 5], [1, 2, 3, np.nan], [np.nan, 3, 3, np.nan]])
    np.testing.assert_array_equal(shown, expected)


def test_receptive_fields() -> None:
    fields = torch.randn(8, 12, 12)
    fields[3] = torch.nan
    figure = receptive_field_figure(fields, 11, 3, names=[f"map {n}" for n in range(8)], title="features.3")
    assert problems(figure) == []
    np.testing.assert_allclose(figure.axes[0].images[0].get_array(), fields[0])
    titles = [axes.get_title(loc="left") for axes in figure.axes[:8]]
    assert [title for title in titles if "not excited" in title] == ["map 3: not excited"]
    for arguments, message in [((fields[0],), "fields \\[U, rows, cols\\]"), ((fields,), "names of 8 maps, got 1")]:
        with pytest.raises(ValueError, match=message):
            receptive_field_figure(*arguments, 11, 3, names=["one"])

"""What the matrix image x map of maxima says: which maps answer alike, to which labels, and to which words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zfkernels.gallery.matrix import FILE, ROWS, open_matrix, open_rows
from zfkernels.gallery.statistics import selectivity_of

CHUNK = 1024  # rows of the matrix that are in memory at once
COLUMNS = 1024  # maps whose correlations are
PAIRS = 32  # pairs of columns that are correlated at once: each block also gives what nobody asked for


@dataclass(frozen=True)
class Maxima:
    """The largest activation of every map on every image; ``Gallery.maxima`` opens it.

    Attributes:
        values: float16 [N, M], mapped from the disk; NaN in the rows of images that could not be used. Values beyond
            65,504 are kept as that.
        maps: (layer, channel) of each column.
        image_ids: int64 [N], of each row.
        images: The key of each row's image.
        labels: Its label, None where it has none, or where there are more than 1,000 labels.
    """

    values: np.ndarray
    maps: Sequence[tuple[str, int]]
    image_ids: Tensor
    images: Sequence[str]
    labels: Sequence[str | None]

    @classmethod
    def open(cls, folder: Path, maps: Sequence[tuple[str, int]]) -> Maxima:
        """The matrix in a folder.

        Raises:
            FileNotFoundError: There is none.
            ValueError: It is not of as many images and maps as it should be.
        """
        values, rows = open_matrix(folder / FILE), open_rows(folder / ROWS)
        if values.shape != (len(rows), len(maps)):
            raise ValueError(
                f"Gallery: expected {folder / FILE} a matrix [{len(rows)}, {len(maps)}], got {list(values.shape)}"
            )
        ids = torch.tensor(rows["image_id"].to_pylist(), dtype=torch.int64)
        return cls(values, maps, ids, rows["image"].to_pylist(), rows["label"].to_pylist())

    @property
    def used(self) -> np.ndarray:
        """Numbers of the rows of images that could be used, int64."""
        return np.flatnonzero(~np.isnan(np.asarray(self.values[:, 0]))) if len(self.maps) else np.arange(0)

    def column(self, layer: str, channel: int) -> int:
        """Where a map stands.

        Raises:
            ValueError: There is no such map.
        """
        try:
            return self.maps.index((layer, channel))
        except ValueError:
            raise ValueError(f"Maxima: expected layer and channel of a map, got {layer!r} and {channel}") from None

    def nearest(self, layer: str, channel: int, count: int = 5) -> list[dict[str, Any]]:
        """The maps whose maxima correlate most with those of this one: layer, channel and Pearson's correlation.

        Raises:
            ValueError: There is no such map.
        """
        column = self.column(layer, channel)
        (found,) = nearest(self.values, range(column, column + 1), self.used, count)
        return [{"layer": self.maps[n][0], "channel": self.maps[n][1], "correlation": value} for n, value in found]

    def selectivity(self, labels: Sequence[str | None] | None = None) -> list[dict[str, Any]]:
        """For each map the label that it responds to most, and how selectively (Morcos et al. 2018).

        Args:
            labels: One for each row; None takes those of the data.

        Raises:
            ValueError: Another number of labels than of rows, or fewer than two different ones.
        """
        labels = self.labels if labels is None else labels
        names = sorted({label for label in labels if label is not None})
        if len(labels) != len(self.images) or len(names) < 2:
            raise ValueError(
                f"Maxima.selectivity: expected labels, one for each of {len(self.images)} images and two different "
                f"ones, got {len(labels)} with {len(names)} different ones"
            )
        number = {name: n for n, name in enumerate(names)}
        known = np.array([n for n in self.used.tolist() if labels[n] is not None])
        sums = torch.zeros(len(names), len(self.maps), dtype=torch.float64)
        for rows in np.array_split(known, -(-len(known) // CHUNK)):
            of = torch.tensor([number[labels[n]] for n in rows.tolist()])
            sums.index_add_(0, of, torch.from_numpy(self.values[rows].astype(np.float64)))
        counts = torch.tensor([sum(labels[n] == name for n in known.tolist()) for name in names])
        means = (sums / counts[:, None].clamp(min=1)).T
        best, share = means.argmax(1).tolist(), selectivity_of(means).tolist()
        return [
            {"layer": layer, "channel": channel, "label": names[n], "selectivity": None if value != value else value}
            for (layer, channel), n, value in zip(self.maps, best, share, strict=True)
        ]

    def concepts(self, similarity: Any, names: Sequence[str], count: int = 3) -> list[list[dict[str, Any]]]:
        """Words for each map: those whose similarity to the images correlates most with the map's maxima.

        Args:
            similarity: [N, K], how well each of K texts fits each row's image, by whatever model: CLIP's similarities
                of texts and images, say.
            names: The K texts.
            count: Words for each map.

        Returns:
            For each map, in the order of ``maps``, its words with their correlations, the best first; none for a map
            that is the same on all images.

        Raises:
            ValueError: ``similarity`` is of another shape, or has values that are not finite.

        Differs from the paper: Pearson's correlation takes the place of its similarity functions.

        Source: Oikarinen & Weng 2023 (arXiv 2204.10965), section 3.
        """
        array = np.asarray(similarity, np.float64)
        if array.shape != (len(self.images), len(names)) or not np.isfinite(array).all():
            raise ValueError(
                f"Maxima.concepts: expected similarity finite numbers [{len(self.images)}, {len(names)}], got "
                f"{list(array.shape)}"
            )
        found: list[list[tuple[int, float]]] = []
        for start in range(0, len(self.maps), COLUMNS):
            columns = range(start, min(start + COLUMNS, len(self.maps)))
            values = correlations(self.values[:, columns.start : columns.stop], array, self.used, self.used)
            found += best_of(values, count)
        return [[{"concept": names[n], "correlation": value} for n, value in row] for row in found]


def nearest(values: np.ndarray, columns: range, rows: np.ndarray, count: int) -> list[list[tuple[int, float]]]:
    """For each of some columns the other columns that it correlates most with, and how much, over some rows."""
    found: list[list[tuple[int, float]]] = []
    for start in range(columns.start, columns.stop, COLUMNS):
        some = range(start, min(start + COLUMNS, columns.stop))
        alike = correlations(values[:, some.start : some.stop], values, rows, rows)
        alike[torch.arange(len(some)), torch.arange(some.start, some.stop)] = torch.nan
        found += best_of(alike, count)
    return found


def best_of(values: Tensor, count: int) -> list[list[tuple[int, float]]]:
    """The largest of each row [A, B], NaN left out: where, and how large."""
    best = values.nan_to_num(-torch.inf).topk(min(count, values.shape[1]), 1)
    return [
        [(n, value) for n, value in zip(places, found, strict=True) if value > -torch.inf]
        for places, found in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]


def correlations(left: np.ndarray, right: np.ndarray, left_rows: np.ndarray, right_rows: np.ndarray) -> Tensor:
    """Pearson's correlation of each column of ``left`` [·, A] with each of ``right`` [·, B], float64 [A, B].

    Row ``left_rows[n]`` goes with row ``right_rows[n]``; the matrices may be mapped from a disk. NaN for a column that
    is constant in these rows.
    """
    parts = max(1, -(-len(left_rows) // CHUNK))
    chunks = list(zip(np.array_split(left_rows, parts), np.array_split(right_rows, parts), strict=True))
    means = [
        sum(matrix[pair[side]].astype(np.float64).sum(0) for pair in chunks) / max(len(left_rows), 1)
        for side, matrix in enumerate((left, right))
    ]
    products = np.zeros((left.shape[1], right.shape[1]))
    squares = [np.zeros(left.shape[1]), np.zeros(right.shape[1])]
    for here, there in chunks:
        a = left[here].astype(np.float64) - means[0]
        b = right[there].astype(np.float64) - means[1]
        products += a.T @ b
        squares[0] += (a * a).sum(0)
        squares[1] += (b * b).sum(0)
    scale = np.sqrt(squares[0])[:, None] * np.sqrt(squares[1])
    with np.errstate(invalid="ignore", divide="ignore"):
        found = np.where(scale > 0, products / scale, np.nan)
    return torch.from_numpy(found.clip(-1, 1))


def paired(
    left: np.ndarray, right: np.ndarray, columns: tuple[list[int], list[int]], rows: tuple[np.ndarray, np.ndarray]
) -> list[float | None]:
    """The correlation of each of some columns of ``left`` with its partner in ``right``; None for a constant one."""
    found: list[float | None] = []
    for start in range(0, len(columns[0]), PAIRS):
        a, b = (side[start : start + PAIRS] for side in columns)
        diagonal = correlations(left[:, a], right[:, b], *rows).diagonal().tolist()
        found += [None if value != value else round(value, 4) for value in diagonal]
    return found

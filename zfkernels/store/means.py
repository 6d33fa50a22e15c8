"""The mean drop of the images of each class."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ClassMeans:
    """What hiding each place takes away on average.

    Attributes:
        labels: Of the classes, by name.
        counts: int64 [L], images of each.
        drop: float64 [L, ...], the mean drop of each.
        largest: float64 [N], of each image the largest drop at any place.
    """

    labels: list[str]
    counts: np.ndarray
    drop: np.ndarray
    largest: np.ndarray

    @classmethod
    def of(cls, drops: Iterable[tuple[str, np.ndarray]]) -> ClassMeans:
        """Of images, each with its label; summed in the order given."""
        sums: dict[str, np.ndarray] = {}
        counts: dict[str, int] = {}
        largest = []
        for label, drop in drops:
            sums[label] = sums[label] + drop if label in sums else drop.astype(np.float64)
            counts[label] = counts.get(label, 0) + 1
            largest.append(float(drop.max()))
        labels = sorted(sums)
        return cls(
            labels,
            np.array([counts[label] for label in labels], np.int64),
            np.stack([sums[label] / counts[label] for label in labels]),
            np.array(largest),
        )

    @property
    def mean(self) -> np.ndarray:
        """[...]: over all images."""
        weights = self.counts.reshape(-1, *[1] * (self.drop.ndim - 1))
        return (self.drop * weights).sum(0) / self.counts.sum()

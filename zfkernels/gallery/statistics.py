"""What the first pass learns of every map beside its winners: how its maxima spread, and which labels it answers to.

Source: Morcos et al. 2018 (arXiv 1803.06959), section 2.3, for the selectivity: (m - r) / (m + r), with m the mean of
the maxima over the images of the label that it answers to most, and r the mean of the other labels' means.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from zfkernels._extras import require
from zfkernels.analysis.topk import Ranking
from zfkernels.gallery.layers import Layer

if TYPE_CHECKING:
    import pyarrow

STEPS = 2  # bins of an octave
LOWEST, HIGHEST = -20, 20  # octaves
BINS = 1 + STEPS * (HIGHEST - LOWEST)  # the first: nothing above zero
MOST_LABELS = 1000  # with more, means by label are left out: their sums outgrow the memory
BEST = 5  # labels that are named of a map


def edges() -> list[float]:
    """The lower ends of the bins of a histogram; the first bin holds what is not above zero."""
    return [0.0, *(2.0 ** (LOWEST + n / STEPS) for n in range(BINS - 1))]


def bins_of(values: Tensor) -> Tensor:
    """The bins of ``edges()`` that values [...] of any floating-point type lie in, int64 [...].

    From the numbers' own bits: the exponent counts octaves, and whether the fraction reaches sqrt(2) tells their
    halves. No logarithm, and exact at every edge.
    """
    values = values if values.dtype == torch.float64 else values.float()
    width, whole, bias = (52, torch.int64, 1023) if values.dtype == torch.float64 else (23, torch.int32, 127)
    half = math.ceil((math.sqrt(2) - 1) * 2**width)  # the smallest fraction of the upper half of an octave
    bits = values.contiguous().view(whole)
    found = (bits >> width) + ((bits - half) >> width) + (2 + STEPS * (-LOWEST - bias))
    return torch.where(values > 0, found.clamp_(1, BINS - 1), 0).long()


@dataclass(frozen=True)
class MapStatistics:
    """Of the C maps of a layer.

    Attributes:
        histogram: int64 [C, BINS], images by the maximum of the map on them; the bins are ``edges()``.
        labels: The labels, sorted; none where no image has one, or more than 1,000 there are.
        counts: int64 [L], images of each label.
        means: float64 [C, L], mean of the maxima over the images of each label.
    """

    histogram: Tensor
    labels: tuple[str, ...]
    counts: Tensor
    means: Tensor

    @property
    def order(self) -> Tensor:
        """int64 [C, L]: the labels by falling mean, ties by name."""
        return self.means.sort(dim=1, descending=True, stable=True).indices

    @property
    def selectivity(self) -> Tensor:
        """float64 [C]: from 0 (all labels alike) to 1 (one label only); NaN without two labels or where none fires."""
        return selectivity_of(self.means)


def selectivity_of(
    means: Tensor,  # float64 [C, L]
) -> Tensor:  # float64 [C]
    """How much each map answers to one label more than to the others; NaN without two labels or where none fires."""
    if means.shape[1] < 2:
        return torch.full((len(means),), torch.nan, dtype=torch.float64)
    means = means.clamp(min=0)
    most = means.amax(1)
    rest = (means.sum(1) - most) / (means.shape[1] - 1)
    return (most - rest) / (most + rest)


class Statistics:
    """Running statistics of the maps of several layers, one layer's after the other's; the result depends neither on
    batches nor on how the images were split.

    Args:
        channels: Number of maps of each layer.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        self.channels = list(channels)
        maps = sum(channels)
        self.histogram = torch.zeros(maps, BINS, dtype=torch.int64)
        self.sums = torch.zeros(0, maps, dtype=torch.float64)
        self.counts = torch.zeros(0, dtype=torch.int64)
        self.labels: dict[str, int] | None = {}
        self._first = torch.arange(maps) * BINS  # where the histogram of each map begins

    def see(self, labels: Sequence[str | None]) -> Tensor | None:
        """Counts the labels of some images; the row of each, int64 [N], -1 where it has none. None: too many labels."""
        for label in labels:
            if self.labels is not None and label is not None and label not in self.labels:
                self.labels[label] = len(self.labels)
        self._fit()
        if self.labels is None:
            return None
        rows = torch.tensor(self.numbers(labels), dtype=torch.int64)
        self.counts += torch.bincount(rows[rows >= 0], minlength=len(self.counts))
        return rows

    def numbers(self, labels: Sequence[str | None]) -> list[int]:
        """The row of each label that was seen; -1 where there is none, or where they are too many."""
        return [-1 if label is None or self.labels is None else self.labels[label] for label in labels]

    def update(self, maxima: Tensor, rows: Tensor | None) -> None:
        """Takes in the maxima [N, maps] of all maps over N images, of which ``see`` gave the ``rows``."""
        places = (bins_of(maxima) + self._first).flatten()
        self.histogram.view(-1).scatter_add_(0, places, torch.ones_like(places))
        if rows is not None and len(self.counts):
            known = rows >= 0
            self.sums.index_add_(0, rows[known], maxima[known].double().nan_to_num(neginf=0.0))

    def merge(self, other: Statistics) -> None:
        """Takes in what ``other`` has seen."""
        self.histogram += other.histogram
        if self.labels is None or other.labels is None:
            self.labels = None
            self._fit()
            return
        for label in other.labels:
            self.labels.setdefault(label, len(self.labels))
        self._fit()
        if self.labels is not None:
            rows = torch.tensor([self.labels[label] for label in other.labels], dtype=torch.int64)
            self.counts.index_add_(0, rows, other.counts)
            self.sums.index_add_(0, rows, other.sums)

    def compute(self) -> list[MapStatistics]:
        """The statistics of each layer."""
        names = sorted(self.labels or ())
        rows = torch.tensor([(self.labels or {})[name] for name in names], dtype=torch.int64)
        counts = self.counts[rows]
        means = (self.sums[rows] / counts[:, None]).T
        return [
            MapStatistics(histogram.clone(), tuple(names), counts, mean.clone())
            for histogram, mean in zip(self.histogram.split(self.channels), means.split(self.channels), strict=True)
        ]

    def tensors(self) -> dict[str, Tensor]:
        """The state, to be saved."""
        names = None if self.labels is None else list(self.labels)
        text = torch.frombuffer(bytearray(json.dumps(names).encode()), dtype=torch.uint8)
        return {
            "statistics.labels": text,
            "statistics.counts": self.counts.clone(),
            "statistics.histogram": self.histogram.clone(),
            "statistics.sums": self.sums.clone(),
        }

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Replaces the state by a saved one."""
        names = json.loads(tensors["statistics.labels"].numpy().tobytes())
        self.labels = None if names is None else {name: row for row, name in enumerate(names)}
        self.counts = tensors["statistics.counts"].clone()
        self.histogram, self.sums = tensors["statistics.histogram"].clone(), tensors["statistics.sums"].clone()

    def _fit(self) -> None:
        """Makes room for all labels; forgets them where they are too many."""
        if self.labels is not None and len(self.labels) > MOST_LABELS:
            self.labels = None
        rows = len(self.labels or ())
        more = rows - len(self.counts)
        if more < 0:
            self.counts, self.sums = self.counts[:0], self.sums[:0]
        elif more:
            self.counts = torch.cat([self.counts, self.counts.new_zeros(more)])
            self.sums = torch.cat([self.sums, self.sums.new_zeros(more, self.sums.shape[1])])


def write_statistics(
    path: Path, layers: Sequence[Layer], rankings: Sequence[Ranking], statistics: Sequence[MapStatistics]
) -> None:
    """Writes maps.parquet: one row for each map; the same rows give the same bytes."""
    pa, parquet = require("pyarrow", "viz"), require("pyarrow.parquet", "viz")
    schema = _schema()
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        for layer, ranking, found in zip(layers, rankings, statistics, strict=True):
            count, best = layer.info.channels, found.order[:, :BEST].tolist()
            selectivity = [None if value != value else value for value in found.selectivity.tolist()]
            columns = [
                [layer.name] * count,
                list(range(count)),
                [ranking.images] * count,
                (ranking.fired.double() / max(ranking.images, 1)).tolist(),
                found.histogram.tolist(),
                [[found.labels[n] for n in row] for row in best],
                [found.means[channel, row].tolist() for channel, row in enumerate(best)],
                selectivity,
                found.means.tolist(),
            ]
            arrays = [pa.array(column, type=kind) for column, kind in zip(columns, schema.types, strict=True)]
            writer.write_table(pa.table(arrays, schema=schema))


def shown(found: MapStatistics, channel: int) -> list[Any]:
    """What the page says of a map: its histogram in percent, from the first bin that holds an image of any map of the
    layer to the last one, the label that it answers to most and its selectivity (None: unknown)."""
    used = found.histogram[:, 1:].sum(0).nonzero()[:, 0].tolist()
    bars = found.histogram[channel, 1 + used[0] : 2 + used[-1]] if used else found.histogram[channel, :0]
    total = max(int(found.histogram[channel].sum()), 1)
    selectivity = float(found.selectivity[channel])
    label = found.labels[int(found.order[channel, 0])] if found.labels else None
    percent = [round(100 * int(bar) / total, 1) for bar in bars]
    return [percent, label, None if selectivity != selectivity else round(selectivity, 3)]


def _schema() -> pyarrow.Schema:
    pa = require("pyarrow", "viz")
    return pa.schema(
        [
            ("layer", pa.string()),
            ("channel", pa.int32()),
            ("images", pa.int64()),
            ("fired", pa.float32()),
            ("histogram", pa.list_(pa.int64())),
            ("labels", pa.list_(pa.string())),
            ("label_means", pa.list_(pa.float32())),
            ("selectivity", pa.float32()),
            ("means", pa.list_(pa.float32())),
        ]
    )

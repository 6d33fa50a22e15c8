"""topk.parquet: one row for each of the strongest activations."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from zfkernels._extras import require
from zfkernels.analysis.topk import Ranking
from zfkernels.deconvnet import DeconvNet
from zfkernels.gallery.layers import Layer
from zfkernels.geometry import Pair

if TYPE_CHECKING:
    import pyarrow


@dataclass(frozen=True)
class Winners:
    """The strongest activations of one layer, by channel and rank; P of them.

    Attributes:
        channel, rank, image_id: int64 [P].
        value: float64 [P].
        position: int64 [P, 2], row and column in the map.
        field: int64 [P, 4], the part of the image that the activation depends on: top, left, bottom, right; half-open,
            clipped to the image.
        drawn: bool [P]; False where a rectified map did not fire, so that there is nothing to show.
    """

    channel: Tensor
    rank: Tensor
    image_id: Tensor
    value: Tensor
    position: Tensor
    field: Tensor
    drawn: Tensor

    @classmethod
    def of(cls, layer: Layer, ranking: Ranking, net: DeconvNet, image_size: Pair) -> Winners:
        """The winners that ``ranking`` holds, for images of ``image_size``."""
        channel, rank = ranking.taken.nonzero(as_tuple=True)
        value = ranking.values[channel, rank]
        drawn = value > 0 if layer.rectified else torch.ones_like(value, dtype=torch.bool)
        image_id, position = ranking.image_ids[channel, rank], ranking.positions[channel, rank]
        field = layer.receptive_fields(net, channel, position, image_size)
        return cls(channel, rank, image_id, value, position, field, drawn)

    @property
    def dead(self) -> list[int]:
        """The maps that were never above zero."""
        return self.channel[(self.rank == 0) & (self.value <= 0)].tolist()

    def only_nan(self, channels: int) -> list[int]:
        """Those of so many maps without any winner: each of their activations was NaN."""
        return sorted(set(range(channels)).difference(self.channel.tolist()))

    def by_map(self) -> Iterator[tuple[int, Tensor]]:
        """Each map that fired, and the rows of its winners by rank, those that are not drawn included."""
        fired = set(self.channel[self.drawn].tolist())
        channels, counts = self.channel.unique_consecutive(return_counts=True)
        rows = torch.arange(len(self.channel)).split(counts.tolist())
        yield from ((channel, row) for channel, row in zip(channels.tolist(), rows, strict=True) if channel in fired)


def write_table(
    path: Path,
    layers: Sequence[Layer],
    winners: Sequence[Winners],
    keys: Sequence[str],
    labels: Mapping[int, str | None],
) -> None:
    """Writes the table; the same rows give the same bytes."""
    pa, parquet = require("pyarrow", "viz"), require("pyarrow.parquet", "viz")
    schema = _schema()
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        for layer, found in zip(layers, winners, strict=True):
            ids = found.image_id.tolist()
            columns = [
                [layer.name] * len(ids),
                found.channel.numpy(),
                found.rank.numpy(),
                found.value.numpy(),
                ids,
                [keys[n] for n in ids],
                [labels.get(n) for n in ids],
                *found.position.T.numpy(),
                *found.field.T.numpy(),
            ]
            arrays = [pa.array(column).cast(kind) for column, kind in zip(columns, schema.types, strict=True)]
            writer.write_table(pa.table(arrays, schema=schema))


def table_digest(path: Path) -> str:
    """SHA-256 of the file of a table."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_table(path: Path, digest: str) -> pyarrow.Table:
    """The table of a gallery, whose file has this SHA-256.

    Raises:
        FileNotFoundError: There is none.
        ValueError: It is damaged, or another gallery's.
    """
    if not path.is_file():
        raise FileNotFoundError(f"Gallery: expected the table of a gallery, got none at {path}")
    if table_digest(path) != digest:
        raise ValueError(f"Gallery: expected {path} the table that belongs to gallery.json, got one that was changed")
    return require("pyarrow.parquet", "viz").read_table(path)


def _schema() -> pyarrow.Schema:
    pa = require("pyarrow", "viz")
    return pa.schema(
        [
            ("layer", pa.string()),
            ("channel", pa.int32()),
            ("rank", pa.int32()),
            ("value", pa.float32()),
            ("image_id", pa.int64()),
            ("image", pa.string()),
            ("label", pa.string()),
            *((name, pa.int32()) for name in ("row", "col", "top", "left", "bottom", "right")),
        ]
    )

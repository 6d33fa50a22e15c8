"""A finished gallery: its table, its pictures, and pages of them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zfkernels._extras import require
from zfkernels.gallery.page import sprite_path
from zfkernels.gallery.table import read_table
from zfkernels.viz import feature_sheet

if TYPE_CHECKING:
    import pyarrow
    from PIL.Image import Image


@dataclass(frozen=True)
class Gallery:
    """A gallery on disk; ``open`` makes one.

    Attributes:
        path: Its folder.
        info: The contents of gallery.json.
    """

    path: Path
    info: dict[str, Any]

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Gallery:
        """The gallery in the folder ``path``.

        Raises:
            FileNotFoundError: There is no complete gallery in it.
        """
        path = Path(path)
        try:
            info = json.loads((path / "gallery.json").read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise FileNotFoundError(f"Gallery.open: expected path the folder of a gallery, got {path}") from error
        return cls(path, info)

    @property
    def layers(self) -> list[str]:
        """Names of the layers, in order."""
        return [layer["name"] for layer in self.info["layers"]]

    @cached_property
    def table(self) -> pyarrow.Table:
        """The strongest activations, one row each."""
        return read_table(self.path / "topk.parquet")

    def maps(self, layer: str) -> list[int]:
        """The maps of a layer that fired."""
        record = self._record(layer)
        return sorted(set(range(record["maps"])) - set(record["dead"]))

    def picture(self, layer: str, channel: int) -> Image:
        """Projections and patches of one map side by side, RGBA.

        Raises:
            ValueError: No such layer, or a map that is not drawn.
        """
        index = self.info["layers"].index(self._record(layer))
        path = self.path / sprite_path(index, channel)
        if not path.is_file():
            raise ValueError(f"Gallery.picture: expected channel one of the maps of {layer} that fired, got {channel}")
        with require("PIL.Image", "viz").open(path) as file:
            return file.convert("RGBA")

    def figure(self, maps: Mapping[str, Sequence[int]] | int = 8, *, columns: int = 4) -> Image:
        """Some maps of some layers on one page, as in the paper's figure 2.

        Args:
            maps: The maps to show of each layer; or a number: so many of every layer, evenly spaced among those that
                fired.
            columns: Maps beside each other.

        Raises:
            ValueError: No such layer, or a map that is not drawn.
        """
        if isinstance(maps, int):
            maps = {layer: evenly_spaced(self.maps(layer), maps) for layer in self.layers}
        rows = [
            (layer, [(str(channel), self.picture(layer, channel)) for channel in channels])
            for layer, channels in maps.items()
        ]
        return feature_sheet(rows, columns=columns)

    def _record(self, layer: str) -> dict[str, Any]:
        for record in self.info["layers"]:
            if record["name"] == layer:
                return record
        raise ValueError(f"Gallery: expected layer one of {self.layers}, got {layer!r}")


def evenly_spaced(items: Sequence[int], count: int) -> list[int]:
    """``count`` of the items, or all if there are fewer."""
    count = min(count, len(items))
    return [items[n * len(items) // count] for n in range(count)]

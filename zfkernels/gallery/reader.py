"""A finished gallery: its table, its pictures as tensors, and figures of them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from zfkernels._extras import require
from zfkernels.gallery.page import image_path, sprite_path
from zfkernels.gallery.table import read_table
from zfkernels.viz import SpriteGrid, feature_sheet, save_picture

if TYPE_CHECKING:
    import pyarrow
    from PIL.Image import Image

FIGURE = ("projections", "patches")
WORDS = {
    "projections": "projected down to pixels (grey: zero)",
    "patches": "the patches of the images that they lie in",
}


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
        """The maps of a layer that are drawn: all that fired, and without a rectifier the others too."""
        record = self._record(layer)
        return sorted(set(range(record["maps"])) - set(record["dead"] if record["rectified"] else ()))

    def winners(self, layer: str, channel: int) -> list[dict[str, Any]]:
        """The rows of the table for one map that are drawn, by rank.

        Raises:
            ValueError: No such layer, or a map that is not drawn.
        """
        record = self._record(layer)
        self._sprite(layer, channel)
        compute = require("pyarrow.compute", "viz")
        here = compute.and_(compute.equal(self.table["layer"], layer), compute.equal(self.table["channel"], channel))
        rows = self.table.filter(here).to_pylist()
        return [row for row in rows if row["value"] > 0 or not record["rectified"]]

    def projections(self, layer: str, channel: int) -> Tensor:  # uint8 [k, 3, h, w]
        """The projections of one map by rank, as drawn: mid-grey is zero, each stretched by itself; from WebP.

        Raises:
            ValueError: No such layer, a map that is not drawn, or a gallery without projections.
        """
        return self._tiles(layer, channel, "projections")

    def patches(self, layer: str, channel: int) -> Tensor:  # uint8 [k, 3, h, w]
        """The image patches of one map by rank, as drawn: squares around the receptive fields; from WebP.

        Raises:
            ValueError: No such layer, or a map that is not drawn.
        """
        return self._tiles(layer, channel, "patches")

    def activations(self, layer: str, channel: int) -> Tensor:  # uint8 [k, 3, h, w]
        """The whole feature map on each of its winning images, as heat.

        Raises:
            ValueError: No such layer, or a map that is not drawn.
        """
        return self._tiles(layer, channel, "activations")

    def image(self, image_id: int) -> Tensor:  # uint8 [3, H, W]
        """A winning image as the network sees it, from WebP.

        Raises:
            ValueError: The image is not among the winners.
        """
        path = self.path / image_path(image_id)
        if not path.is_file():
            raise ValueError(f"Gallery.image: expected image_id of a winning image, got {image_id}")
        return _as_tensor(_open(path).convert("RGB"))

    def picture(self, layer: str, channel: int) -> Image:
        """Projections and patches of one map side by side, RGBA.

        Raises:
            ValueError: No such layer, or a map that is not drawn.
        """
        blocks = [block for block in self.info["blocks"] if block in FIGURE]
        grid = self._grid(layer, len(blocks))
        return _open(self._sprite(layer, channel)).convert("RGBA").crop((0, 0, grid.size[1], grid.size[0]))

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
        blocks = [block for block in self.info["blocks"] if block in FIGURE]
        note = "each map by its number: its strongest activations, " + " beside ".join(WORDS[block] for block in blocks)
        return feature_sheet(rows, columns=columns, title=self._name, note=note)

    def export(self, layer: str, channel: int, path: str | os.PathLike[str]) -> None:
        """Writes one map as the paper's figure 2 has it, projections beside patches, as ``.png``, ``.pdf`` or ``.svg``.

        Raises:
            ValueError: No such layer, a map that is not drawn, or another suffix.
        """
        path = Path(path)
        if path.suffix.lower() not in (".png", ".pdf", ".svg"):
            raise ValueError(f"Gallery.export: expected path of a .png, .pdf or .svg file, got {path}")
        values = [row["value"] for row in self.winners(layer, channel)]
        title = f"{layer}, map {channel}: activations from {max(values):.3g} to {min(values):.3g}\n{self._name}"
        save_picture(self.picture(layer, channel), path, title)

    def to_tensorboard(self, folder: str | os.PathLike[str], maps: int = 16) -> None:
        """Writes a sheet of each layer, and ``maps`` of its maps (evenly spaced), for TensorBoard's images.

        Raises:
            ImportError: tensorboard is missing.
        """
        writer = require("torch.utils.tensorboard", "train").SummaryWriter(str(folder))
        with writer:
            for layer in self.layers:
                chosen = evenly_spaced(self.maps(layer), maps)
                if chosen:
                    writer.add_image(layer, _as_tensor(self.figure({layer: chosen})))
                for channel in chosen:
                    on_white = feature_sheet([(layer, [(str(channel), self.picture(layer, channel))])], columns=1)
                    writer.add_image(f"{layer}/{channel}", _as_tensor(on_white))

    @property
    def _name(self) -> str:
        return f"{self.info['title']}, {self.info['data']['name']}"

    def _grid(self, layer: str, blocks: int) -> SpriteGrid:
        record = self._record(layer)
        return SpriteGrid(self.info["top_k"], (record["tile"][0], record["tile"][1]), blocks)

    def _tiles(self, layer: str, channel: int, block: str) -> Tensor:
        if block not in self.info["blocks"]:
            raise ValueError(f"Gallery.{block}: expected a gallery with {block}, got one of {self.info['blocks']}")
        grid, index = self._grid(layer, len(self.info["blocks"])), self.info["blocks"].index(block)
        sprite = _as_tensor(_open(self._sprite(layer, channel)).convert("RGB"))
        tiles = []
        for rank in range(len(self.winners(layer, channel))):
            top, left = grid.corner(index, rank)
            tiles.append(sprite[:, top : top + grid.tile[0], left : left + grid.tile[1]])
        return torch.stack(tiles)

    def _sprite(self, layer: str, channel: int) -> Path:
        index = self.info["layers"].index(self._record(layer))
        path = self.path / sprite_path(index, channel)
        if not path.is_file():
            raise ValueError(f"Gallery.picture: expected channel one of the maps of {layer} that fired, got {channel}")
        return path

    def _record(self, layer: str) -> dict[str, Any]:
        for record in self.info["layers"]:
            if record["name"] == layer:
                return record
        raise ValueError(f"Gallery: expected layer one of {self.layers}, got {layer!r}")


def evenly_spaced(items: Sequence[int], count: int) -> list[int]:
    """``count`` of the items, or all if there are fewer."""
    count = min(count, len(items))
    return [items[n * len(items) // count] for n in range(count)]


def _open(path: Path) -> Image:
    with require("PIL.Image", "viz").open(path) as file:
        file.load()
        return file


def _as_tensor(picture: Image) -> Tensor:
    numpy = require("numpy", "viz")
    return torch.from_numpy(numpy.array(picture)).permute(2, 0, 1)

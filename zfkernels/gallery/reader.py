"""A finished gallery: its table, its pictures as tensors, and figures of them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from zfkernels._extras import require
from zfkernels.gallery.choice import filters, first_maps, pictures, shows_filters
from zfkernels.gallery.contents import MOST, read_contents
from zfkernels.gallery.maxima import Maxima
from zfkernels.gallery.page import image_path, sprite_path
from zfkernels.gallery.table import read_table
from zfkernels.geometry import Pair
from zfkernels.output import check_file, replacing
from zfkernels.results import html_table, plural
from zfkernels.viz import SpriteGrid, feature_sheet, gallery_figure, save_picture

if TYPE_CHECKING:
    import pyarrow
    from matplotlib.figure import Figure
    from PIL.Image import Image

FIGURE = ("projections", "patches")
WORDS = {
    "projections": "projected down to pixels (grey: zero)",
    "patches": "the patches of the images that they lie in",
}


@dataclass(frozen=True, repr=False)
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
            ValueError: Its gallery.json is not of the form that ``build_gallery`` writes.
        """
        path = Path(path)
        return cls(path, read_contents(path / "gallery.json"))

    def __repr__(self) -> str:
        return f"<Gallery: {self.headline()}, in {self.path}>"

    def _repr_html_(self) -> str:
        return html_table(f"Gallery: {self.headline()}, in {self.path / 'index.html'}", self.overview(), limit=None)

    def headline(self) -> str:
        """The gallery in one line."""
        maps = sum(record["maps"] for record in self.info["layers"])
        return f"{plural(maps, 'map')} of {plural(len(self.layers), 'layer')} of {self._name}"

    def overview(self) -> list[dict[str, Any]]:
        """A row for each layer: its maps, and how many of them never fired."""
        return [
            {"layer": record["name"], "maps": record["maps"], "dead": len(record["dead"])}
            for record in self.info["layers"]
        ]

    @property
    def layers(self) -> list[str]:
        """Names of the layers, in order."""
        return [layer["name"] for layer in self.info["layers"]]

    @cached_property
    def table(self) -> pyarrow.Table:
        """The strongest activations, one row each.

        Raises:
            FileNotFoundError: topk.parquet is missing.
            ValueError: It is damaged.
        """
        return read_table(self.path / "topk.parquet", self.info["table_sha256"])

    @cached_property
    def statistics(self) -> pyarrow.Table:
        """What is known of every map, one row each: layer, channel, images, share of them in which it fired, histogram
        of its maxima (bins: ``zfkernels.gallery.statistics.edges()``), the labels that it answers to most and the means
        of its maxima on them, selectivity, and the means on all labels (``info["labels"]``, in this order).

        Raises:
            FileNotFoundError: maps.parquet is missing; galleries of earlier versions have none.
            ValueError: It is damaged.
        """
        return read_table(self.path / "maps.parquet", self.info.get("statistics_sha256", ""))

    @cached_property
    def maxima(self) -> Maxima:
        """The largest activation of every map on every image, of a gallery that was built with ``maxima=True``.

        Raises:
            FileNotFoundError: It was built without.
            ValueError: The file is not what it should be.
        """
        if not self.info.get("maxima"):
            raise FileNotFoundError(f"Gallery.maxima: expected a gallery built with maxima=True, got {self.path}")
        maps = [(record["name"], channel) for record in self.info["layers"] for channel in range(record["maps"])]
        return Maxima.open(self.path / "maps", maps)

    def maps(self, layer: str) -> list[int]:
        """The maps of a layer that are drawn: all that fired, and without a rectifier the others with a value too."""
        record = self.record(layer)
        hidden = {*record["only_nan"], *(record["dead"] if record["rectified"] else ())}
        return [channel for channel in range(record["maps"]) if channel not in hidden]

    def first_maps(self, layer: str, count: int) -> list[int]:
        """The maps of a layer that are most worth a look, at most ``count`` of those that are drawn.

        The most selective for a label where the images have labels (``statistics``), else the strongest. Maps that
        fired on fewer images than the gallery keeps of each come last.

        Raises:
            TypeError: ``count`` is not an int.
            ValueError: It is below 1; no such layer; a damaged table.
            FileNotFoundError: topk.parquet or maps.parquet is missing.
        """
        return first_maps(self, layer, count)

    def filters(self, layer: str) -> tuple[list[int], Tensor]:  # uint8 [maps, 3, h, w]
        """The filters of a first layer: a convolution of the image, or its rectifier.

        There each projection of a map is its filter, times the activation. Of each map with an activation above zero
        it is the strongest projection among those that the border of the image cuts least.

        Returns:
            The maps, and the filter of each as it is drawn.

        Raises:
            ValueError: No such layer, or one that is no first layer; a gallery without projections; a damaged table.
            FileNotFoundError: topk.parquet or a picture is missing.
        """
        return filters(self, layer)

    def rows(self, table: pyarrow.Table, layer: str, *names: str) -> Iterator[tuple[Any, ...]]:
        """The values of some columns of ``table`` or ``statistics`` in the rows of one layer."""
        rows = table.filter(require("pyarrow.compute", "viz").equal(table["layer"], layer))
        return zip(*(rows[name].to_pylist() for name in names), strict=True)

    def winners(self, layer: str, channel: int) -> list[dict[str, Any]]:
        """The rows of the table for one map that are drawn, by rank.

        Raises:
            ValueError: No such layer, or a map that is not drawn.
        """
        record = self.record(layer)
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

    def occlusions(self, layer: str, channel: int) -> Tensor:  # uint8 [k, 3, h, w]
        """For each winner, over its patch, where a small square lowers its activation, as heat; from WebP.

        Raises:
            ValueError: No such layer, a map that is not drawn, or a gallery without occlusion.
        """
        return self._tiles(layer, channel, "occlusions")

    def image(self, image_id: int) -> Tensor:  # uint8 [3, H, W]
        """A winning image as the network sees it, from WebP.

        Raises:
            TypeError: ``image_id`` is not an int.
            ValueError: The image is not among the winners, or its file is damaged.
        """
        if not isinstance(image_id, int):
            raise TypeError(f"Gallery.image: expected image_id an int, got {type(image_id).__name__}")
        path = self.path / image_path(image_id)
        if not 0 <= image_id <= MOST or not path.is_file():
            raise ValueError(f"Gallery.image: expected image_id of a winning image, got {image_id}")
        height, width = self.info["image_size"]
        return _as_tensor(_open(path, (height, width)).convert("RGB"))

    def picture(self, layer: str, channel: int) -> Image:
        """Projections and patches of one map side by side, RGBA.

        Raises:
            ValueError: No such layer, or a map that is not drawn.
        """
        blocks = [block for block in self.info["blocks"] if block in FIGURE]
        shown = self._grid(layer, len(blocks))
        return self._open_sprite(layer, channel).convert("RGBA").crop((0, 0, shown.size[1], shown.size[0]))

    def figure(self, maps: Mapping[str, Sequence[int]] | int = 8, *, columns: int = 4) -> Image:
        """Some maps of some layers on one page, as in the paper's figure 2.

        Args:
            maps: The maps to show of each layer; or a number from 1 on: so many of every layer, those of
                ``first_maps``; a first layer is then shown as one sheet of all its ``filters``.
            columns: Maps beside each other.

        Raises:
            ValueError: No such layer, a map that is not drawn, a damaged table, or a number below 1.
            FileNotFoundError: topk.parquet, maps.parquet or a picture is missing.
        """
        heads = [block for block in self.info["blocks"] if block in FIGURE]
        rows = pictures(self, maps, lambda _, channel: str(channel))
        note = f"each map by its number: its strongest activations, {self._words}"
        return feature_sheet(
            rows, columns=columns, title=self._name, note=note,
            heads={layer: heads for layer, _ in rows if not (isinstance(maps, int) and shows_filters(self, layer))},
        )  # fmt: skip

    def plot(self, maps: Mapping[str, Sequence[int]] | int = 6, *, columns: int = 3) -> Figure:
        """The same as a figure of matplotlib's, which a notebook shows; each map with the range of its activations.

        Args:
            maps, columns: As of :meth:`figure`.

        Raises:
            ValueError: No such layer, a map that is not drawn, or no map at all.
        """
        rows = pictures(self, maps, self._range)
        if not any(drawn for _, drawn in rows):
            raise ValueError(f"Gallery.plot: expected maps of {self.layers} that fired, got none")
        return gallery_figure(rows, columns=columns, note=f"{self._words}\n{self._name}")

    def export(self, layer: str, channel: int, path: str | os.PathLike[str]) -> None:
        """Writes one map as the paper's figure 2 has it, projections beside patches, as ``.png``, ``.pdf`` or ``.svg``.

        The file is whole or, if the disk is full, as it was. One that this package did not write is not replaced.

        Raises:
            ValueError: No such layer, a map that is not drawn, another suffix, or a file of somebody else's.
        """
        path = Path(path)
        if path.suffix.lower() not in (".png", ".pdf", ".svg"):
            raise ValueError(f"Gallery.export: expected path of a .png, .pdf or .svg file, got {path}")
        check_file("Gallery.export", path)
        picture = self.picture(layer, channel)
        values = [row["value"] for row in self.winners(layer, channel)]
        title = f"{layer}, map {channel}: activations from {max(values):.3g} to {min(values):.3g}\n{self._name}"
        with replacing(path) as temporary:
            save_picture(picture, temporary, title)

    def to_tensorboard(self, folder: str | os.PathLike[str], maps: int = 16) -> None:
        """Writes a sheet of each layer, and ``maps`` of its maps (``first_maps``), for TensorBoard's images.

        Raises:
            ImportError: tensorboard is missing.
        """
        writer = require("torch.utils.tensorboard", "train").SummaryWriter(str(folder))
        with writer:
            for layer in self.layers:
                chosen = self.first_maps(layer, maps)
                if chosen:
                    writer.add_image(layer, _as_tensor(self.figure({layer: chosen})))
                for channel in chosen:
                    on_white = feature_sheet([(layer, [(str(channel), self.picture(layer, channel))])], columns=1)
                    writer.add_image(f"{layer}/{channel}", _as_tensor(on_white))

    @property
    def _name(self) -> str:
        return f"{self.info['title']}, {self.info['data']['name']}"

    @property
    def _words(self) -> str:
        return " beside ".join(WORDS[block] for block in self.info["blocks"] if block in FIGURE)

    def _range(self, layer: str, channel: int) -> str:
        values = [row["value"] for row in self.winners(layer, channel)]
        return f"map {channel}\n{values[0]:.3g} to {values[-1]:.3g}"

    def _grid(self, layer: str, blocks: int) -> SpriteGrid:
        record = self.record(layer)
        return SpriteGrid(self.info["top_k"], (record["tile"][0], record["tile"][1]), blocks)

    def _tiles(self, layer: str, channel: int, block: str) -> Tensor:
        if block not in self.info["blocks"]:
            raise ValueError(f"Gallery.{block}: expected a gallery with {block}, got one of {self.info['blocks']}")
        grid, index = self._grid(layer, len(self.info["blocks"])), self.info["blocks"].index(block)
        sprite = _as_tensor(self._open_sprite(layer, channel).convert("RGB"))
        tiles = []
        for rank in range(min(len(self.winners(layer, channel)), self.info["top_k"])):
            top, left = grid.corner(index, rank)
            tiles.append(sprite[:, top : top + grid.tile[0], left : left + grid.tile[1]])
        return torch.stack(tiles)

    def _open_sprite(self, layer: str, channel: int) -> Image:
        return _open(self._sprite(layer, channel), self._grid(layer, len(self.info["blocks"])).size)

    def _sprite(self, layer: str, channel: int) -> Path:
        record = self.record(layer)
        path = self.path / sprite_path(self.info["layers"].index(record), channel)
        if not 0 <= channel < record["maps"] or not path.is_file():
            raise ValueError(f"Gallery.picture: expected channel one of the maps of {layer} that fired, got {channel}")
        return path

    def record(self, layer: str) -> dict[str, Any]:
        """What gallery.json says of a layer.

        Raises:
            ValueError: No such layer.
        """
        for record in self.info["layers"]:
            if record["name"] == layer:
                return record
        raise ValueError(f"Gallery: expected layer one of {self.layers}, got {layer!r}")


def _open(path: Path, size: Pair) -> Image:
    """A picture of a gallery. No other decoder than that for WebP sees it, and none that is larger than it says."""
    image = require("PIL.Image", "viz")
    try:
        with image.open(path, formats=["WEBP"]) as file:
            if file.size != (size[1], size[0]):
                raise ValueError(f"{file.size[1]}x{file.size[0]} pixels")
            file.load()
            return file
    except image.UnidentifiedImageError as error:
        raise ValueError(f"Gallery: expected {path} a WebP picture, got another file") from error
    except (OSError, ValueError, SyntaxError) as error:
        raise ValueError(
            f"Gallery: expected {path} a whole picture of {size[0]}x{size[1]} pixels, got {error}"
        ) from error


def _as_tensor(picture: Image) -> Tensor:
    numpy = require("numpy", "viz")
    return torch.from_numpy(numpy.array(picture)).permute(2, 0, 1)

"""A gallery beside the network: the strongest activations of a map, each of which leads into its photo."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from zfkernels.data import ImageSource
from zfkernels.gallery import Gallery
from zfkernels.models import weights_hash
from zfkernels.serve.network import Network


class Winners:
    """What a gallery says of the maps of a network.

    Args:
        gallery: Of this network.
        network: To check that.
        source: The data set that the gallery was made of, if it is at hand: its photos are opened in place of the
            gallery's copies.

    Raises:
        ValueError: A gallery of other weights, or of images of another size.
    """

    def __init__(self, gallery: Gallery, network: Network, source: ImageSource | None = None) -> None:
        found = gallery.info.get("model", {}).get("weights_sha256")
        if found != weights_hash(network.model):
            raise ValueError(f"serve: expected gallery one of {network.name}, got {gallery.path} of other weights")
        if tuple(gallery.info["image_size"]) != network.size:
            raise ValueError(f"serve: expected gallery of images {network.size}, got {gallery.info['image_size']}")
        self.gallery, self.source = gallery, source

    @cached_property
    def _numbers(self) -> dict[str, int]:
        """The ids of the data set's images by key."""
        return {} if self.source is None else {key: number for number, key in enumerate(self.source.keys)}

    @cached_property
    def _names(self) -> dict[int, str]:
        """The keys of the gallery's images by id."""
        table = self.gallery.table
        return dict(zip(table["image_id"].to_pylist(), table["image"].to_pylist(), strict=True))

    def of(self, layer: str, channel: int) -> list[dict[str, Any]] | None:
        """A map's winners by rank: value, photo, its name and label, row and column; None where it is not drawn."""
        if layer not in self.gallery.layers or channel not in self.gallery.maps(layer):
            return None
        return [
            {
                "rank": row["rank"], "value": row["value"], "photo": self._photo(row), "name": row["image"],
                "label": row["label"], "row": row["row"], "column": row["col"],
            }
            for row in self.gallery.winners(layer, channel)
        ]  # fmt: skip

    def tile(self, layer: str) -> tuple[int, int]:
        """Height and width of a column of a layer's strips."""
        (record,) = (record for record in self.gallery.info["layers"] if record["name"] == layer)
        height, width = record["tile"]
        return height * len(self._shown), width

    def strip(self, layer: str, channel: int) -> Tensor:
        """uint8 [3, h, w]: a column for each winner of a map, its projection (if drawn) above its patch.

        Raises:
            ValueError: No such layer, or a map that is not drawn.
        """
        rows = [getattr(self.gallery, block)(layer, channel) for block in self._shown]
        return torch.cat([torch.cat(list(tiles), 2) for tiles in rows], 1)

    @property
    def _shown(self) -> list[str]:
        return [block for block in ("projections", "patches") if block in self.gallery.info["blocks"]]

    def picture(self, image_id: int) -> tuple[Tensor, str]:
        """The gallery's copy of a photo, uint8 [3, H, W], and its name.

        Raises:
            ValueError: It is not among the winners.
        """
        return self.gallery.image(image_id), self._names.get(image_id, "")

    def _photo(self, row: dict[str, Any]) -> str:
        number = self._numbers.get(row["image"])
        return f"gallery-{row['image_id']}" if number is None else f"data-{number}"

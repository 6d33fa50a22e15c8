"""Second pass: the winning images once more, each activation projected and drawn beside the patch that caused it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from zfkernels.data import ImageSource, stream
from zfkernels.gallery.layers import Layer
from zfkernels.gallery.table import Winners
from zfkernels.methods.deconvnet import DeconvNet
from zfkernels.models import Preprocess
from zfkernels.viz import resize_tiles, stretch_projections
from zfkernels.windows import Pair, Windows, crop, place

BLOCKS = ("projections", "patches")
CHUNK = 128  # activations projected and drawn at a time


def tile_size(layer: Layer, image_size: Pair) -> Pair:
    """Height and width in pixels of a tile of ``layer``: larger for layers that see more of the image."""
    height, width = view_size(layer.field, image_size)
    long = min(max(60, 48 + max(height, width) // 2), 108)
    scale = long / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def view_size(field: Pair, image_size: Pair) -> Pair:
    """Rows and columns of the image that a tile shows: a square around the receptive field, inside the image."""
    side = max(field)
    return min(side, image_size[0]), min(side, image_size[1])


class Tiles:
    """Drawn tiles of all layers, uint8 [blocks, C, k, height, width, 3] each, in files: they outgrow the memory."""

    def __init__(
        self, folder: Path, layers: Sequence[Layer], top_k: int, blocks: Sequence[str], image_size: Pair
    ) -> None:
        self.blocks = tuple(blocks)
        self._arrays = [
            np.lib.format.open_memmap(
                folder / f"{index}.npy",
                mode="w+",
                dtype=np.uint8,
                shape=(len(blocks), layer.info.channels, top_k, *tile_size(layer, image_size), 3),
            )
            for index, layer in enumerate(layers)
        ]

    def put(self, layer: int, channel: Tensor, rank: Tensor, painted: Mapping[str, Tensor]) -> None:
        """Keeps the tiles of P activations of one layer, uint8 [P, 3, height, width] of each block."""
        for index, block in enumerate(self.blocks):
            pixels = painted[block].permute(0, 2, 3, 1).numpy()
            self._arrays[layer][index, channel.numpy(), rank.numpy()] = pixels

    def of_map(self, layer: int, channel: int) -> np.ndarray:  # uint8 [blocks, k, height, width, 3]
        """The tiles of one feature map."""
        return self._arrays[layer][:, channel]


@dataclass(frozen=True)
class Painter:
    """Draws activations: the projection of each one, and the patch of the image that caused it.

    Attributes:
        net: Projects.
        preprocess: Undoes the normalisation of the images.
        blocks: What to draw, of ``BLOCKS``.
    """

    net: DeconvNet
    preprocess: Preprocess
    blocks: tuple[str, ...] = BLOCKS

    def paint(
        self,
        layer: Layer,
        images: Tensor,  # [N, 3, H, W], as the network takes them
        units: Tensor,  # int64 [P, 4]: image, channel, row, column
        field: Tensor,  # int64 [P, 4]: the part of the image that each one depends on
    ) -> dict[str, Tensor]:  # of each block: uint8 [P, 3, height, width], on the CPU
        """Tiles of P activations of one layer. Those of one branch all show as much of the image, inside its border."""
        used, image = units[:, 0].unique(return_inverse=True)
        images = images[used.to(images.device)]
        frame = (images.shape[2], images.shape[3])
        size = tile_size(layer, frame)
        pixels = self.preprocess.to_pixels(images).float()
        projected = None
        if "projections" in self.blocks:
            units = torch.cat([image[:, None], units[:, 1:]], 1)
            projected = self.net.project(images, layer=layer.name, units=units).windows
        painted = {block: torch.zeros(len(units), 3, *size, dtype=torch.uint8) for block in self.blocks}
        for branch in layer.branches:
            here = branch.members(units[:, 1])
            view = view_size(branch.field, frame)
            origins, n = (x.to(images.device) for x in (place(field[here, :2], view, frame), image[here]))
            patches = resize_tiles(crop(pixels, origins, n, view), size)
            painted["patches"][here] = patches.clamp_(0, 255).round_().to(torch.uint8).cpu()
            if projected is not None:
                values = resize_tiles(crop(None, origins, n, view, windows=_rows(projected, here)).float(), size)
                painted["projections"][here] = stretch_projections(values).cpu()
        return painted


def _rows(windows: Windows, chosen: Tensor) -> Windows:
    chosen = chosen.to(windows.values.device)
    return Windows(windows.values[chosen], windows.origins[chosen], windows.image[chosen], windows.frame)


def draw_winners(
    painter: Painter,
    layers: Sequence[Layer],
    winners: Sequence[Winners],
    source: ImageSource,
    tiles: Tiles,
    *,
    batch_size: int,
    workers: int | None,
    advance: Callable[[int], object],
) -> dict[int, str | None]:
    """Draws every winner; each image is read once.

    Returns:
        The label of each winning image.

    Raises:
        RuntimeError: An image that was read in the first pass cannot be read any more.
    """
    parameter = next(painter.net.trace.model.parameters(), torch.empty(0))
    wanted = {n for found in winners for n in found.image_id.tolist()}
    labels: dict[int, str | None] = {}
    ids = [n for n in source.order if n in wanted]
    for batch in stream(source, painter.preprocess, ids=ids, batch_size=batch_size, workers=workers):
        if batch.skipped:
            image_id, reason = batch.skipped[0]
            raise RuntimeError(f"build_gallery: {source.keys[image_id]} changed during the run: {reason}")
        labels.update(zip(batch.ids.tolist(), batch.labels, strict=True))
        images = batch.images.to(parameter.device, parameter.dtype)
        for index, (layer, found) in enumerate(zip(layers, winners, strict=True)):
            for chosen, image in _in_batch(found, batch.ids):
                channel, rank = found.channel[chosen], found.rank[chosen]
                units = torch.cat([image[:, None], channel[:, None], found.position[chosen]], 1)
                painted = painter.paint(layer, images, units, found.field[chosen])
                tiles.put(index, channel, rank, painted)
        advance(len(batch.ids))
    return labels


def _in_batch(found: Winners, ids: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """In chunks: the drawn winners whose images are among ``ids``, by image, and each one's image as a place in it."""
    sorted_ids, by_id = ids.sort()
    nearest = torch.searchsorted(sorted_ids, found.image_id).clamp(max=len(ids) - 1)
    here = ((sorted_ids[nearest] == found.image_id) & found.drawn).nonzero()[:, 0]
    image = by_id[nearest[here]]
    by_image = image.argsort(stable=True)
    if len(here):
        yield from zip(here[by_image].split(CHUNK), image[by_image].split(CHUNK), strict=True)

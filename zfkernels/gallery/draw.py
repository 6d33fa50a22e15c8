"""Second pass: the winning images once more, each activation projected and drawn beside the patch that caused it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from zfkernels.data import Batch
from zfkernels.deconvnet import DeconvNet, Forward
from zfkernels.deconvnet.units import batches_of
from zfkernels.gallery.checkpoint import Checkpoint
from zfkernels.gallery.events import Stage
from zfkernels.gallery.hiding import Hiding
from zfkernels.gallery.layers import Layer
from zfkernels.gallery.originals import with_originals
from zfkernels.gallery.page import sprite_path
from zfkernels.gallery.pictures import Pictures
from zfkernels.gallery.table import Winners
from zfkernels.gallery.tiles import Painter, Tiles
from zfkernels.viz import map_sprite
from zfkernels.windows import Windows

CHUNK = 128  # activations projected and drawn at a time
SPRITE_QUALITY = 88
WEBP_METHOD = 2  # half the time of the default for files 3 % larger
# How far an activation may be from what the first pass found: blocks of other shapes round otherwise.
TOLERANCE = 2e-2


@dataclass(frozen=True)
class Studio:
    """What the second pass works with.

    Attributes:
        net: Projects.
        painter: Draws.
        layers, winners: What there is to draw.
        tiles: Takes the tiles.
        pictures: Takes the images.
        keys: Names of the images.
        top_k: Places for tiles in the picture of a map.
        hiding: Makes heat maps of winners; None where none are shown.
    """

    net: DeconvNet
    painter: Painter
    layers: Sequence[Layer]
    winners: Sequence[Winners]
    tiles: Tiles
    pictures: Pictures
    keys: Sequence[str]
    top_k: int
    hiding: Hiding | None = None

    def draw(self, batch: Batch) -> None:
        """Draws all winners in the images of a batch, from one forward pass.

        Raises:
            RuntimeError: An image is not what it was in the first pass.
        """
        if batch.skipped:
            image_id, reason = batch.skipped[0]
            raise RuntimeError(f"build_gallery: {self.keys[image_id]} changed during the run: {reason}")
        parameter = next(self.net.model.parameters(), torch.empty(0))
        images = batch.images.to(parameter.device, parameter.dtype)
        chosen = [_in_batch(found, batch.ids) for found in self.winners]
        needed = [layer.name for layer, (rows, _) in zip(self.layers, chosen, strict=True) if len(rows)]
        pixels = self.painter.show.pixels(images)
        for image_id, picture in zip(batch.ids.tolist(), pixels, strict=True):
            self.pictures.put(image_id, picture)
        forward, size = self.net.forward(images, needed), (images.shape[2], images.shape[3])
        pixels = with_originals(pixels.float(), batch.originals)
        heat = self._heat(images, chosen)
        for places in batches_of({index: torch.arange(len(rows)) for index, (rows, _) in enumerate(chosen)}, CHUNK):
            units: dict[int, Tensor] = {}
            for index, place in places.items():
                found, (rows, image) = self.winners[index], chosen[index]
                here = rows[place]
                units[index] = torch.cat([image[place, None], found.channel[here, None], found.position[here]], 1)
            projected = self._project(forward, units)
            for index, place in places.items():
                layer, found, here = self.layers[index], self.winners[index], chosen[index][0][place]
                painted, values = self.painter.paint(
                    layer, forward, pixels, size, units[index], found.field[here], projected.get(index)
                )
                if self.hiding is not None:
                    painted["occlusions"] = self.hiding.tiles(
                        index, units[index], found.field[here], heat[index][place]
                    )
                self._compare(values, found.value[here], found.image_id[here])
                self.tiles.put(index, here, painted)

    def _project(self, forward: Forward, units: Mapping[int, Tensor]) -> dict[int, Windows]:
        """The projections of winners of several layers, which go down together; none where none are shown."""
        if "projections" not in self.painter.blocks:
            return {}
        found = forward.project_layers({self.layers[index].name: wanted for index, wanted in units.items()}, CHUNK)
        return {index: found[self.layers[index].name].windows for index in units}

    def _heat(self, images: Tensor, chosen: Sequence[tuple[Tensor, Tensor]]) -> dict[int, Tensor]:
        """For each layer the heat maps of its winners in a batch."""
        if self.hiding is None:
            return {}
        units, fields = {}, {}
        for index, (found, (rows, image)) in enumerate(zip(self.winners, chosen, strict=True)):
            units[index] = torch.cat([image[:, None], found.channel[rows, None], found.position[rows]], 1)
            fields[index] = found.field[rows]
        return self.hiding.heat(images, units, fields)

    def tensors(self) -> dict[str, Tensor]:
        """What is known of the tiles and images that were drawn, when they are on disk."""
        self.tiles.flush()
        self.pictures.flush()
        return {**self.tiles.tensors(), **self.pictures.tensors()}

    def add(self, tensors: dict[str, Tensor]) -> None:
        """Takes in what was saved of a process's tiles and images."""
        self.tiles.add(tensors)
        self.pictures.add(tensors)

    def _compare(self, now: Tensor, before: Tensor, image_id: Tensor) -> None:
        now = now.double()
        same = (now - before).abs() <= TOLERANCE * before.abs().clamp(min=before.abs().mean().item())
        wrong = (~same & (now != before)).nonzero()
        if len(wrong):
            n = int(wrong[0])
            raise RuntimeError(
                f"build_gallery: {self.keys[int(image_id[n])]} changed during the run: an activation of "
                f"{before[n]:.4g} is now {now[n]:.4g}; a data set has to give the same images in each pass"
            )


def draw(batches: Iterable[Batch], studio: Studio, checkpoint: Checkpoint, stage: Stage) -> None:
    """Draws every winner; each image is decoded and sent through the network once."""
    progress = checkpoint.progress
    for batch in progress.waiting(batches):
        with progress.timed("projecting and drawing"):
            studio.draw(batch)
        progress.notes.update(zip(batch.ids.tolist(), batch.labels, strict=True))
        progress.finish(batch.number)
        checkpoint.update()
        stage.advance(len(batch.ids))


def write_sprites(folder: Path, studio: Studio, advance: Callable[[int], object]) -> None:
    """One picture for each map that fired."""

    def write(index: int, channel: int, rows: Tensor, drawn: Tensor) -> None:
        places = [(0, 0), (0, studio.top_k - len(rows)), (0, 0), (0, 0), (0, 0)]  # each picture of a layer is as large
        tiles = np.pad(studio.tiles.get(index, rows), places)
        sprite = map_sprite(tiles, [*drawn.tolist(), *[False] * places[1][1]])
        sprite.save(folder / sprite_path(index, channel), "WEBP", quality=SPRITE_QUALITY, method=WEBP_METHOD)

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for index, found in enumerate(studio.winners):
            (folder / sprite_path(index, 0)).parent.mkdir(parents=True, exist_ok=True)
            pending = [pool.submit(write, index, channel, rows, found.drawn[rows]) for channel, rows in found.by_map()]
            for done in pending:
                done.result()
                advance(1)


def _in_batch(found: Winners, ids: Tensor) -> tuple[Tensor, Tensor]:
    """The drawn winners whose images are among ``ids``, by image, and each one's image as a place in it."""
    sorted_ids, by_id = ids.sort()
    nearest = torch.searchsorted(sorted_ids, found.image_id).clamp(max=len(ids) - 1)
    here = ((sorted_ids[nearest] == found.image_id) & found.drawn).nonzero()[:, 0]
    image = by_id[nearest[here]]
    by_image = image.argsort(stable=True)
    return here[by_image], image[by_image]

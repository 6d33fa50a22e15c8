"""Tiles of activations: the projection of each, the patch of the image that caused it, and the map that it is of."""

from __future__ import annotations

import math
import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from zfkernels.deconvnet import Forward
from zfkernels.gallery.layers import Layer
from zfkernels.gallery.show import Show
from zfkernels.gallery.table import Winners
from zfkernels.geometry import Pair, place
from zfkernels.output.workplace import ANEW
from zfkernels.viz import heat_tiles, resize_tiles, stretch_projections
from zfkernels.windows import Windows, crop

BLOCKS = ("projections", "patches", "activations", "occlusions", "channels")


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
    """Drawn tiles, uint8 [P, blocks, height, width, 3] for each layer, in files: they outgrow the memory.

    Args:
        folder: Where the files are, or are to be.
        layers, winners: What is drawn: each winner of each layer has a row.
        blocks: Of ``BLOCKS``.
        image_size: Of the images.

    Attributes:
        checks: For each layer int64 [P], the CRC-32 of each tile; -1 where none was drawn.
    """

    def __init__(
        self,
        folder: Path,
        layers: Sequence[Layer],
        winners: Sequence[Winners],
        blocks: Sequence[str],
        image_size: Pair,
    ) -> None:
        self.blocks, self.folder = tuple(blocks), folder
        self._shapes = [(len(blocks), *tile_size(layer, image_size), 3) for layer in layers]  # of a row
        self._sizes = [
            max(len(found.rank), 1) * math.prod(shape) for shape, found in zip(self._shapes, winners, strict=True)
        ]
        self.checks = [torch.full_like(found.rank, -1) for found in winners]
        self._files: dict[int, BinaryIO] = {}

    def are_there(self) -> bool:
        """Whether all files are there in full length."""
        return all(self._is_there(index) for index in range(len(self._sizes)))

    def reserve(self) -> None:
        """Makes the files that are missing, so that a full disk is an error now and not a crash later."""
        self.folder.mkdir(exist_ok=True)
        for index, size in enumerate(self._sizes):
            if not self._is_there(index):
                _reserve(self._path(index), size)

    def put(self, layer: int, rows: Tensor, painted: Mapping[str, Tensor]) -> None:
        """Keeps the tiles of some winners of one layer, uint8 [len(rows), 3, height, width] of each block."""
        tiles = torch.stack([painted[block].permute(0, 2, 3, 1) for block in self.blocks], 1).numpy()
        size = math.prod(self._shapes[layer])
        for row, tile in zip(rows.tolist(), tiles, strict=True):
            os.pwrite(self._open(layer), tile.data, row * size)
            self.checks[layer][row] = zlib.crc32(tile.data)

    def get(self, layer: int, rows: Tensor) -> np.ndarray:  # uint8 [blocks, len(rows), height, width, 3]
        """The tiles of some winners of one layer; zeros where none was drawn.

        Raises:
            ValueError: A tile is not what was put.
        """
        size = math.prod(self._shapes[layer])
        found = []
        for row in rows.tolist():
            check = int(self.checks[layer][row])
            tile = bytes(size) if check < 0 else os.pread(self._open(layer), size, row * size)
            if check >= 0 and zlib.crc32(tile) != check:
                raise ValueError(
                    f"build_gallery: expected whole tiles, got {self._path(layer)} that was damaged; {ANEW}"
                )
            found.append(tile)
        return np.frombuffer(b"".join(found), np.uint8).reshape(len(rows), *self._shapes[layer]).swapaxes(0, 1)

    def flush(self) -> None:
        """Makes sure that what was put is on the disk."""
        for file in self._files.values():
            os.fsync(file.fileno())

    def tensors(self) -> dict[str, Tensor]:
        """The checks, to be saved: int64 ``tiles.<layer>`` [P]."""
        return {f"tiles.{index}": checks for index, checks in enumerate(self.checks)}

    def add(self, tensors: Mapping[str, Tensor]) -> None:
        """Takes in checks that were saved."""
        if tensors:
            self.checks = [torch.maximum(checks, tensors[f"tiles.{index}"]) for index, checks in enumerate(self.checks)]

    def _path(self, layer: int) -> Path:
        return self.folder / f"{layer}.bin"

    def _is_there(self, layer: int) -> bool:
        path = self._path(layer)
        return path.exists() and path.stat().st_size == self._sizes[layer]

    def _open(self, layer: int) -> int:
        if layer not in self._files:
            self._files[layer] = open(self._path(layer), "r+b", buffering=0)  # noqa: SIM115  # closed with this object
        return self._files[layer].fileno()


def _reserve(path: Path, size: int) -> None:
    with open(path, "wb") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            file.truncate(size)


def blocks_of(projections: bool, occlusion: bool, channels: int) -> tuple[str, ...]:
    """What is drawn of each activation of a network of so many channels."""
    drawn = {
        "projections": projections,
        "channels": projections and channels > 3,
        "occlusions": occlusion,
    }
    return tuple(block for block in BLOCKS if drawn.get(block, True))


def channel_tiles(
    projections: Tensor,  # float [P, C, h, w]
    size: Pair,
) -> Tensor:  # uint8 [P, 3, *size]
    """The channels of projections beside each other, row by row, in grey: mid-grey is zero, one scale for all of a
    projection's channels. What is left of a tile is black."""
    count, channels = projections.shape[:2]
    columns = math.isqrt(channels - 1) + 1
    rows = -(-channels // columns)
    height, width = max(1, size[0] // rows), max(1, size[1] // columns)
    grey = stretch_projections(resize_tiles(projections, (height, width)))
    tiles = torch.zeros(count, *size, dtype=torch.uint8, device=grey.device)
    for channel in range(channels):
        top, left = channel // columns * height, channel % columns * width
        part = tiles[:, top : top + height, left : left + width]
        part.copy_(grey[:, channel, : part.shape[1], : part.shape[2]])
    return tiles[:, None].expand(-1, 3, -1, -1)


@dataclass(frozen=True)
class Painter:
    """Draws activations.

    Attributes:
        show: Chooses the channels of projections.
        blocks: What to draw, of ``BLOCKS``.
    """

    show: Show
    blocks: tuple[str, ...] = BLOCKS

    def paint(
        self,
        layer: Layer,
        forward: Forward,
        pixels: Tensor,  # float [N, 3, s H, s W], 0 … 255, for s = 1, 2, … (of originals)
        image_size: Pair,
        units: Tensor,  # int64 [P, 4]: image, channel, row, column
        field: Tensor,  # int64 [P, 4]: the part of the image that each one depends on
        projected: Windows | None,
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Tiles of P activations of one layer. Those of one branch all show as much of the image, inside its border.

        ``projected`` are their projections, None where none are shown.

        Returns:
            Of each block uint8 [P, 3, height, width], on the CPU; and the activations [P].
        """
        frame, scale = image_size, pixels.shape[2] // image_size[0]
        size = tile_size(layer, frame)
        image, channel, row, column = units.to(pixels.device).T
        maps = forward.activations(layer.name)
        values = maps[image, channel, row, column]
        painted = {block: torch.zeros(len(units), 3, *size, dtype=torch.uint8) for block in self.blocks}
        painted["activations"] = heat_tiles(maps[image, channel].float(), size).cpu()
        for branch in layer.branches:
            here = branch.members(units[:, 1])
            view = view_size(branch.field, frame)
            origins, n = place(field[here, :2], view, frame).to(pixels.device), image[here.to(pixels.device)]
            cells = crop(pixels, scale * origins, n, (scale * view[0], scale * view[1]))
            patches = resize_tiles(cells, size)
            painted["patches"][here] = patches.clamp_(0, 255).round_().to(torch.uint8).cpu()
            if projected is not None:
                cells = projected.crops(origins, view, here).float()
                signal = resize_tiles(self.show.chosen(cells), size)
                painted["projections"][here] = stretch_projections(signal).cpu()
                if "channels" in self.blocks:
                    painted["channels"][here] = channel_tiles(cells, size).cpu()
        return painted, values.cpu()

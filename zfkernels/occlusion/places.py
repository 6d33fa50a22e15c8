"""Where the windows of each chunk of a sweep lie: known on the device before the chunk's first launch.

All of it follows from boxes, so that the host computes it, and sends what every chunk needs in one copy. Where the
layouts of all chunks are small, they stay on the device for the next image; else each chunk's are sent before it runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from zfkernels.occlusion.plan import SweepPlan
from zfkernels.windows import Layout

SHARE = 8  # of a sweep's memory, one part may be taken by layouts that stay
ALIGNED = 2  # int64s: kernels are compiled once for tensors that begin at 16 bytes


@dataclass(frozen=True)
class ChunkLayouts:
    """Where the windows of a chunk of K entries lie.

    Attributes:
        layouts: one for each of the plan's places.
        image: int64 [K], the image of each entry.
        position: int64 [K], its position.
        corners: int64 [K, 2], of what is hidden, before it is clipped to the image.
    """

    layouts: tuple[Layout, ...]
    image: Tensor
    position: Tensor
    corners: Tensor


@dataclass(frozen=True)
class Packed:
    """The same on the host, before the owners of cells are written out.

    Attributes:
        words: int64, all tensors one behind the other.
        count: K.
        cells: of each of the plan's places.
    """

    words: Tensor
    count: int
    cells: tuple[int, ...]


class Places:
    """The boxes of a plan as one tensor, from which the layouts of any chunk are taken at once.

    Args:
        plan: of the sweep.
        corners: int64 [P, 2], of what is hidden, before it is clipped to the images.
    """

    def __init__(self, plan: SweepPlan, corners: Tensor) -> None:
        self.frames = [place.frame for place in plan.places]
        self.boxes = torch.stack([place.boxes for place in plan.places])  # [L, P, 4]
        self.cells = torch.stack([place.cells for place in plan.places])  # [L, P]
        self.corners = corners
        owners, words = 4 * int(self.cells.sum()), 4 * len(self.frames) + 4
        self.size = owners + 8 * words * len(corners)  # bytes of the layouts of all positions of an image
        self.kept: dict[tuple[int, int, torch.device], list[ChunkLayouts]] = {}  # of the latest sweep

    def chunks(self, images: int, size: int, device: torch.device, memory: int) -> Iterator[ChunkLayouts]:
        """The layouts of chunks of ``size`` entries: all positions of the first image, then of the second, ….

        Args:
            images: how many.
            size: entries of a chunk, but for the last one.
            device: where they are wanted.
            memory: bytes of a sweep.
        """
        if self.stay(images, size, device, memory):
            yield from self.kept[images, size, device]
            return
        for packed in self._packed(images, size):
            yield self._layouts(_sent(packed.words, device), packed, images)

    def stay(self, images: int, size: int, device: torch.device, memory: int) -> bool:
        """Whether the layouts of all chunks stay on ``device``; then they are there."""
        key = images, size, device
        if key not in self.kept:
            self.kept.clear()
            # A single chunk's take no more memory by staying.
            if size < images * len(self.corners) and images * self.size > memory // SHARE:
                return False
            every = list(self._packed(images, size))
            words = [packed.words for packed in every]
            parts = _sent(torch.cat(words), device).split(list(map(len, words))) if words else ()
            self.kept[key] = [self._layouts(part, packed, images) for part, packed in zip(parts, every, strict=True)]
        return True

    def at(self, position: Tensor, image: Tensor, images: int, device: torch.device) -> ChunkLayouts:
        """The layouts of entries ``position`` of ``image``, int64 [K] each, on the CPU."""
        packed = self._pack(position, image)
        return self._layouts(_sent(packed.words, device), packed, images)

    def _packed(self, images: int, size: int) -> Iterator[Packed]:
        count = self.boxes.shape[1]
        for entry in torch.arange(images * count).split(size) if images * count else ():
            yield self._pack(entry % count, entry // count)

    def _pack(self, position: Tensor, image: Tensor) -> Packed:
        boxes, cells = self.boxes[:, position], self.cells[:, position]
        offsets = torch.nn.functional.pad(cells.cumsum(1), (1, 0))
        total = tuple(offsets[:, -1].tolist())
        rows = (boxes.view(torch.int64).flatten(1), offsets, cells, self.corners[position].view(1, -1))
        parts = (*rows, position[None], image[None])
        return Packed(torch.cat([_padded(part).flatten() for part in parts]), len(position), total)

    def _layouts(self, words: Tensor, packed: Packed, images: int) -> ChunkLayouts:
        """The layouts of what was packed, now that it is on its device; nothing there is waited for."""
        places, count = len(self.frames), packed.count
        shapes = [(places, 2 * count), (places, count + 1), (places, count), (1, 2 * count), (1, count), (1, count)]
        parts = words.split([rows * _even(columns) for rows, columns in shapes])
        boxes, offsets, cells, corners, position, image = (
            part.view(rows, _even(columns))[:, :columns] for part, (rows, columns) in zip(parts, shapes, strict=True)
        )
        window = torch.arange(count, device=words.device, dtype=torch.int32)
        layouts = []
        for index, (frame, total) in enumerate(zip(self.frames, packed.cells, strict=True)):
            owner = window.repeat_interleave(cells[index], output_size=total)
            box = boxes[index].view(torch.int32).view(count, 4)
            layouts.append(Layout(box, offsets[index], image[0], frame, total, owner, images))
        return ChunkLayouts(tuple(layouts), image[0], position[0], corners[0].view(count, 2))


def _even(length: int) -> int:
    return -(-length // ALIGNED) * ALIGNED


def _padded(rows: Tensor) -> Tensor:
    """int64 [R, L], each row as long as :func:`_even` says."""
    return torch.nn.functional.pad(rows, (0, _even(rows.shape[1]) - rows.shape[1]))


def _sent(words: Tensor, device: torch.device) -> Tensor:
    """The words on a device; on a GPU from pinned memory, so that the host goes on at once."""
    if device.type == "cuda":
        return words.pin_memory().to(device, non_blocking=True)
    return words.to(device)

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
from zfkernels.packing import Packed, pack, sent, unpack
from zfkernels.windows import Layout

SHARE = 8  # of a sweep's memory, one part may be taken by layouts that stay


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
            yield self._layouts(sent(packed.words, device), packed, images)

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
            parts = sent(torch.cat(words), device).split(list(map(len, words))) if words else ()
            self.kept[key] = [self._layouts(part, packed, images) for part, packed in zip(parts, every, strict=True)]
        return True

    def at(self, position: Tensor, image: Tensor, images: int, device: torch.device) -> ChunkLayouts:
        """The layouts of entries ``position`` of ``image``, int64 [K] each, on the CPU."""
        packed = self._pack(position, image)
        return self._layouts(sent(packed.words, device), packed, images)

    def _packed(self, images: int, size: int) -> Iterator[Packed]:
        count = self.boxes.shape[1]
        for entry in torch.arange(images * count).split(size) if images * count else ():
            yield self._pack(entry % count, entry // count)

    def _pack(self, position: Tensor, image: Tensor) -> Packed:
        boxes, cells = self.boxes[:, position], self.cells[:, position]
        return pack(self.frames, boxes, cells, image, position, self.corners[position])

    def _layouts(self, words: Tensor, packed: Packed, images: int) -> ChunkLayouts:
        """The layouts of what was packed, now that it is on its device."""
        layouts, (position, corners) = unpack(words, packed, images)
        return ChunkLayouts(tuple(layouts), layouts[0].image, position, corners)

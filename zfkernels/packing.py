"""Layouts of many steps, packed on the host, sent to a device in one copy, and taken apart there.

The host computes the boxes, and so knows all layouts before the first launch. It sends a GPU one tensor from pinned
memory, and does not wait for the copy. Most of the memory of a layout holds the owner of each cell, that is the window
to which it belongs; the owners are computed on the device.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from zfkernels.geometry import Pair
from zfkernels.windows import Layout

ALIGNED = 2  # int64s: kernels are compiled once for tensors that begin at 16 bytes


@dataclass(frozen=True)
class Packed:
    """Layouts of the same K windows in L steps, and other numbers, on the host.

    Attributes:
        words: int64, all tensors one after the other.
        frames: (H, W) of each step.
        count: K.
        cells: the number of cells of all windows, for each step.
        shapes: the shapes of the other tensors.
    """

    words: Tensor
    frames: tuple[Pair, ...]
    count: int
    cells: tuple[int, ...]
    shapes: tuple[tuple[int, ...], ...]


def pack(frames: Sequence[Pair], boxes: Tensor, cells: Tensor, image: Tensor, *others: Tensor) -> Packed:
    """Packs layouts and other tensors, all of them on the CPU. Nothing is checked.

    Args:
        frames: (H, W) of each of the L steps.
        boxes: int32 [L, K, 4] (top, left, height, width), inside the frames.
        cells: int64 [L, K], the number of cells of each box.
        image: int64 [K], the image that each window belongs to.
        others: int64 tensors of any shapes that are sent as well.
    """
    offsets = torch.nn.functional.pad(cells.cumsum(1), (1, 0))
    rows = (boxes.view(torch.int64).flatten(1), offsets, cells, *(part.reshape(1, -1) for part in (image, *others)))
    words = torch.cat([_padded(part).flatten() for part in rows])
    shapes = tuple(tuple(other.shape) for other in others)
    return Packed(words, tuple(frames), len(image), tuple(offsets[:, -1].tolist()), shapes)


def unpack(words: Tensor, packed: Packed, images: int) -> tuple[list[Layout], list[Tensor]]:
    """The layouts and the other tensors, on the device of ``words``; the host does not wait for it.

    Args:
        words: the words of ``packed``, on the device where the layouts are wanted.
        packed: the same on the host.
        images: how many images the layouts are of.
    """
    steps, count = len(packed.frames), packed.count
    shapes = [(steps, 2 * count), (steps, count + 1), (steps, count), (1, count)]
    shapes += [(1, math.prod(shape)) for shape in packed.shapes]
    parts = words.split([rows * _even(columns) for rows, columns in shapes])
    boxes, offsets, cells, image, *others = (
        part.view(rows, _even(columns))[:, :columns] for part, (rows, columns) in zip(parts, shapes, strict=True)
    )
    window = torch.arange(count, device=words.device, dtype=torch.int32)
    layouts = []
    for index, (frame, total) in enumerate(zip(packed.frames, packed.cells, strict=True)):
        owner = window.repeat_interleave(cells[index], output_size=total)
        box = boxes[index].view(torch.int32).view(count, 4)
        layouts.append(Layout(box, offsets[index], image[0], frame, total, owner, images))
    return layouts, [other[0].view(shape) for other, shape in zip(others, packed.shapes, strict=True)]


def sent(words: Tensor, device: torch.device) -> Tensor:
    """The words on a device; on a GPU from pinned memory, so that the host goes on at once."""
    if device.type == "cuda":
        return words.pin_memory().to(device, non_blocking=True)
    return words.to(device)


def _even(length: int) -> int:
    return -(-length // ALIGNED) * ALIGNED


def _padded(rows: Tensor) -> Tensor:
    """int64 [R, L], each row as long as :func:`_even` says."""
    return torch.nn.functional.pad(rows, (0, _even(rows.shape[1]) - rows.shape[1]))

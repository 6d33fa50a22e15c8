"""Windows of one size: many small crops of one layer, and the frame that each is part of."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from zfkernels.geometry import (
    Boxes,
    Pair,
    Sliding,
    boxes,
    first_touched,
    inputs_read,
    outputs_touched,
    per_axis,
    union,
)

__all__ = [
    "Boxes",
    "Pair",
    "Sliding",
    "Windows",
    "boxes",
    "crop",
    "first_touched",
    "inputs_read",
    "outputs_touched",
    "per_axis",
    "place",
    "union",
]


def place(lo: Tensor, size: Pair, frame: Pair) -> Tensor:
    """Origins, int32 [P, 2], of windows of ``size`` that start at ``lo``, pushed back into the frame where needed."""
    return lo.clamp(max=per_axis(lo, (frame[0] - size[0], frame[1] - size[1]))).clamp(min=0).to(torch.int32)


@dataclass(frozen=True)
class Windows:
    """P crops of one layer of a batch of images, all of one size, each inside its frame.

    Attributes:
        values: [P, C, h, w].
        origins: int32 [P, 2]: row and column of each crop's first cell in the layer; never outside the frame.
        image: int64 [P]: the image of the batch that each crop belongs to.
        frame: (H, W), the size of the whole layer.
    """

    values: Tensor
    origins: Tensor
    image: Tensor
    frame: Pair

    @property
    def size(self) -> Pair:
        """(h, w) of each crop."""
        return self.values.shape[-2], self.values.shape[-1]

    def paste(self, frames: Tensor | None = None) -> Tensor:
        """The whole layer for each crop: [P, C, H, W], ``frames`` [N, C, H, W] (zeros if None) outside the crop."""
        if self.size == self.frame:
            return self.values
        origins = torch.zeros_like(self.origins)
        return crop(frames, origins, self.image, self.frame, windows=self)


def _unflatten(leaves: Iterable[Any], frame: Pair) -> Windows:
    values, origins, image = leaves
    return Windows(values, origins, image, frame)


pytree.register_pytree_node(
    Windows,
    lambda windows: ([windows.values, windows.origins, windows.image], windows.frame),
    _unflatten,
    serialized_type_name="zfkernels.Windows",
    to_dumpable_context=list,
    from_dumpable_context=tuple,
)


def crop(
    frames: Tensor | None,
    origins: Tensor,
    image: Tensor,
    size: Pair,
    *,
    windows: Windows | None = None,
    fill: float = 0.0,
) -> Tensor:
    """Crops of ``size`` at ``origins`` (which may reach over the border) from frames with windows pasted in.

    Args:
        frames: [N, C, H, W], the layer of each image; None: every cell is ``fill``.
        origins: int [P, 2].
        image: int64 [P], the frame of each crop.
        size: (h, w) of the crops.
        windows: one window for each crop, which goes before the frame where they meet.
        fill: value outside the frame.

    Returns:
        [P, C, h, w], channels last.
    """
    if frames is not None:
        source, frame = frames, (frames.shape[2], frames.shape[3])
    elif windows is not None:
        source, frame = windows.values, windows.frame
    else:
        raise ValueError("crop: expected frames or windows, got neither")
    count, channels = origins.shape[0], source.shape[1]
    rows = origins[:, 0, None].long() + torch.arange(size[0], device=source.device)  # [P, h]
    columns = origins[:, 1, None].long() + torch.arange(size[1], device=source.device)  # [P, w]
    if frames is None:
        cells = source.new_full((count * size[0] * size[1], channels), fill)
    else:
        line = image[:, None] * frame[0] + rows.clamp(0, frame[0] - 1)
        index = line[:, :, None] * frame[1] + columns.clamp(0, frame[1] - 1)[:, None, :]
        cells = _as_cells(frames).index_select(0, index.flatten())
        outside = _outside(rows, frame[0])[:, :, None] | _outside(columns, frame[1])[:, None, :]
        cells[outside.flatten().nonzero()[:, 0]] = fill
    if windows is not None:
        height, width = windows.size
        row = windows.origins[:, 0, None].long() + torch.arange(height, device=source.device) - rows[:, :1]
        column = windows.origins[:, 1, None].long() + torch.arange(width, device=source.device) - columns[:, :1]
        line = torch.arange(count, device=source.device)[:, None] * size[0] + row
        index = (line[:, :, None] * size[1] + column[:, None, :]).flatten()
        inside = ~(_outside(row, size[0])[:, :, None] | _outside(column, size[1])[:, None, :]).flatten()
        kept = inside.nonzero()[:, 0]
        cells[index[kept]] = _as_cells(windows.values).index_select(0, kept)
    return cells.view(count, size[0], size[1], channels).permute(0, 3, 1, 2)


def _as_cells(frames: Tensor) -> Tensor:
    return frames.permute(0, 2, 3, 1).reshape(-1, frames.shape[1])


def _outside(index: Tensor, length: int) -> Tensor:
    return (index < 0) | (index >= length)

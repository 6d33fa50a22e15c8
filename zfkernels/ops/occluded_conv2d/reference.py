"""The first convolution of an occlusion sweep, in plain PyTorch.

With q the box boxes[p], clipped to the image, without the cells that a mask leaves out, and f the fill:

    x[p, y, x] = f inside q, images[image[p], :, y, x] elsewhere
    out[i, :] = (conv2d(x[p]) + bias)[:, y, x], then ReLU if asked

with (p, y, x) the window and the place of output cell i.
"""

from __future__ import annotations

import torch
from torch import Tensor

from zfkernels.geometry import Pair, Sliding
from zfkernels.ops._window_cells import Part, as_cells, look_up, parts, within
from zfkernels.ops.window_conv2d.reference import Filters


def occluded_conv2d(
    images: Tensor,  # [N, C, H, W]
    weight: Tensor,  # [C_out, C / groups, kh, kw]
    bias: Tensor | None,  # [C_out]
    boxes: Tensor,  # int32 [P, 4]
    image: Tensor,  # int64 [P]
    fill: Tensor,  # [C], [P, C], [N, C, H, W], or [fill cells, C] with the two that follow
    fill_boxes: Tensor | None,  # int32 [P, 4]
    fill_offsets: Tensor | None,  # int64 [P + 1]
    mask: Tensor | None,  # bool [mask cells, 1]
    mask_boxes: Tensor | None,  # int32 [P, 4]
    mask_offsets: Tensor | None,  # int64 [P + 1]
    out_boxes: Tensor,  # int32 [P, 4]
    out_offsets: Tensor,  # int64 [P + 1]
    owner: Tensor,  # int32 [out cells]
    cells: int,  # out cells
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
    relu: bool,
) -> Tensor:  # [cells, C_out]
    layer = Sliding((weight.shape[2], weight.shape[3]), stride, padding, dilation)
    dtype = torch.promote_types(images.dtype, torch.float32)
    filters = Filters(weight.to(dtype), None if bias is None else bias.to(dtype), groups, relu)
    pixels = _Pixels(images.to(dtype), boxes, fill.to(dtype), fill_boxes, fill_offsets, mask, mask_boxes, mask_offsets)
    out = images.new_empty(cells, weight.shape[0])
    for part in parts(out_boxes, out_offsets, image, owner, weight[0, 0].numel() * images.shape[1]):
        out[part.cells] = filters.of(pixels.table, pixels.index(part, *part.read(layer)))
    return out


class _Pixels:
    """The pixels of occluded images as rows of one table: those of the images, those of the fill, and zero."""

    def __init__(
        self,
        images: Tensor,
        boxes: Tensor,
        fill: Tensor,
        fill_boxes: Tensor | None,
        fill_offsets: Tensor | None,
        mask: Tensor | None,
        mask_boxes: Tensor | None,
        mask_offsets: Tensor | None,
    ) -> None:
        self.frame = (images.shape[2], images.shape[3])
        self.boxes, self.fill_boxes, self.fill_offsets = boxes.to(torch.int64), fill_boxes, fill_offsets
        self.mask, self.mask_boxes, self.mask_offsets = mask, mask_boxes, mask_offsets
        self.dims = fill.dim()
        shown = as_cells(fill) if self.dims == 4 else fill.reshape(-1, fill.shape[-1])
        clean = as_cells(images)
        self.first_fill = clean.shape[0]
        self.table = torch.cat([clean, shown, clean.new_zeros(1, clean.shape[1])])

    def index(self, part: Part, rows: Tensor, columns: Tensor) -> Tensor:
        """The rows of the table, int64 [cells, kh, kw], under the taps at ``rows`` and ``columns`` of the image."""
        height, width = self.frame
        clean = ((part.image[:, None] * height + rows) * width)[:, :, None] + columns[:, None, :]
        box = self.boxes.index_select(0, part.owner)[:, :, None]
        hidden = within(rows - box[:, 0], 0, box[:, 2])[:, :, None] & within(columns - box[:, 1], 0, box[:, 3])[:, None]
        shown: Tensor = torch.zeros_like(clean)
        if self.fill_boxes is not None and self.fill_offsets is not None:
            shown, there = look_up(self.fill_boxes, self.fill_offsets, part.owner, rows, columns)
            hidden &= there
        elif self.dims == 2:
            shown = part.owner.long()[:, None, None]
        elif self.dims == 4:
            shown = clean
        if self.mask is not None and self.mask_boxes is not None and self.mask_offsets is not None:
            cell, there = look_up(self.mask_boxes, self.mask_offsets, part.owner, rows, columns)
            masked = torch.cat([self.mask.flatten(), self.mask.new_zeros(1)])
            hidden &= masked[torch.where(there, cell, len(masked) - 1)]
        found = torch.where(hidden, self.first_fill + shown, clean)
        inside = within(rows, 0, height)[:, :, None] & within(columns, 0, width)[:, None, :]
        return torch.where(inside, found, len(self.table) - 1)

"""Convolution of windows in their frames, in plain PyTorch: gather the cells under the taps, then multiply.

With (p, y, x) the window and the place of output cell i, and cell(p, r, c) that of window p where it has one, else that
of frame image[p], else zero:

    out[i, o] = bias[o] + sum over c, ky, kx of weight[o, c, ky, kx] * cell(p, y', x')[c]
    with y' = y * stride - padding + ky * dilation, and x' likewise

then the ReLU if asked.
"""

from __future__ import annotations

import torch
from torch import Tensor

from zfkernels.geometry import Pair, Sliding
from zfkernels.ops._window_cells import Cells, Source, parts


def window_conv2d(
    values: Tensor,  # [cells, C]
    boxes: Tensor,  # int32 [P, 4]
    offsets: Tensor,  # int64 [P + 1]
    image: Tensor,  # int64 [P]
    frames: Tensor | None,  # [N, C, H, W]
    frame: Pair,  # (H, W)
    weight: Tensor,  # [C_out, C / groups, kh, kw]
    bias: Tensor | None,  # [C_out]
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
    dtype = torch.promote_types(values.dtype, torch.float32)
    source = Cells.of([Source(values, boxes, offsets)], frames, frame, dtype)
    filters = Filters(weight.to(dtype), None if bias is None else bias.to(dtype), groups, relu)
    out = values.new_empty(cells, weight.shape[0])
    for part in parts(out_boxes, out_offsets, image, owner, weight[0, 0].numel() * values.shape[1]):
        index = source.index([part.owner], part.image, *part.read(layer))
        out[part.cells] = filters.of(source.table, index)
    return out


class Filters:
    """The filters of a convolution as matrices, applied to rows of a table of cells."""

    def __init__(self, weight: Tensor, bias: Tensor | None, groups: int, relu: bool) -> None:
        outputs, channels, height, width = weight.shape
        self.bias, self.groups, self.relu, self.channels = bias, groups, relu, channels
        self.depthwise = channels == 1 and groups > 1
        if self.depthwise:  # [kh * kw, C_out]
            self.matrix = weight.reshape(outputs, height * width).t()
        else:  # [groups, kh * kw * C / groups, C_out / groups]
            matrix = weight.reshape(groups, outputs // groups, channels, height * width)
            self.matrix = matrix.permute(0, 3, 2, 1).reshape(groups, height * width * channels, outputs // groups)

    def of(self, table: Tensor, index: Tensor) -> Tensor:
        """The outputs [cells, C_out] that read the rows ``index`` [cells, kh, kw] of ``table`` [rows, C]."""
        count, taps = index.shape[0], index[0].numel()
        if self.depthwise:
            out = self._depthwise(table, index.view(count, taps))
        else:
            region = table.index_select(0, index.flatten())
            if self.groups == 1:
                out = region.view(count, -1) @ self.matrix[0]
            else:
                split = region.view(count, taps, self.groups, self.channels).permute(2, 0, 1, 3)
                out = torch.bmm(split.reshape(self.groups, count, -1), self.matrix).transpose(0, 1).reshape(count, -1)
        out = out if self.bias is None else out.add_(self.bias)
        return out.relu_() if self.relu else out

    def _depthwise(self, table: Tensor, index: Tensor) -> Tensor:
        out = table.new_zeros(index.shape[0], self.matrix.shape[1])
        times = self.matrix.shape[1] // table.shape[1]
        for tap in range(index.shape[1]):
            read = table.index_select(0, index[:, tap])
            out.addcmul_(read.repeat_interleave(times, 1) if times > 1 else read, self.matrix[tap])
        return out

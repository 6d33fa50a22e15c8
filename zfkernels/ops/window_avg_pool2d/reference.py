"""Average pooling of windows in their frames, in plain PyTorch.

out[i, c] = sum over ky, kx of cell(p, y * s - pad + ky, x * s - pad + kx)[c] / divisor, with (p, y, x) the window and
the place of output cell i, and cell that of window p where it has one, else that of frame image[p], else zero. The
divisor is the number of cells of the pooling window inside the frame, or inside the frame and its padding, or given.
"""

from __future__ import annotations

import torch
from torch import Tensor

from zfkernels.geometry import Pair, Sliding
from zfkernels.ops._window_cells import Cells, Part, Source, parts


def window_avg_pool2d(
    values: Tensor,  # [cells, C]
    boxes: Tensor,  # int32 [P, 4]
    offsets: Tensor,  # int64 [P + 1]
    image: Tensor,  # int64 [P]
    frames: Tensor | None,  # [N, C, H, W]
    frame: Pair,  # (H, W)
    out_boxes: Tensor,  # int32 [P, 4]
    out_offsets: Tensor,  # int64 [P + 1]
    owner: Tensor,  # int32 [out cells]
    cells: int,  # out cells
    kernel_size: Pair,
    stride: Pair,
    padding: Pair,
    count_include_pad: bool,
    divisor_override: int | None,
) -> Tensor:  # [cells, C]
    layer = Sliding(kernel_size, stride, padding)
    dtype = torch.promote_types(values.dtype, torch.float32)
    source = Cells.of([Source(values, boxes, offsets)], frames, frame, dtype)
    out = values.new_empty(cells, values.shape[1])
    for part in parts(out_boxes, out_offsets, image, owner, values.shape[1]):
        index = source.index([part.owner], part.image, *part.read(layer)).flatten(1)
        total = source.table.index_select(0, index[:, 0])
        for tap in range(1, index.shape[1]):
            total += source.table.index_select(0, index[:, tap])
        divisor = divisor_override or averaged(part, layer, frame, count_include_pad)[:, None]
        out[part.cells] = total / divisor
    return out


def averaged(part: Part, layer: Sliding, frame: Pair, count_include_pad: bool) -> Tensor:
    """The number of cells of each output's pooling window, int64 [cells]: inside the frame, or its padding too."""
    count = torch.ones_like(part.rows)
    for axis, place in enumerate((part.rows, part.columns)):
        room = layer.padding[axis] if count_include_pad else 0
        first = place * layer.stride[axis] - layer.padding[axis]
        count *= (first + layer.kernel[axis]).clamp(max=frame[axis] + room) - first.clamp(min=-room)
    return count

"""Max-pooling of windows in their frames, in plain PyTorch; the padding never wins.

out[i, c] = max over ky, kx of cell(p, y * s - pad + ky * d, x * s - pad + kx * d)[c], with (p, y, x) the window and the
place of output cell i, and cell that of window p where it has one, else that of frame image[p], else minus infinity.
"""

from __future__ import annotations

import torch
from torch import Tensor

from zfkernels.geometry import Pair, Sliding
from zfkernels.ops._window_cells import Cells, Source, parts


def window_max_pool2d(
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
    dilation: Pair,
) -> Tensor:  # [cells, C]
    layer = Sliding(kernel_size, stride, padding, dilation)
    source = Cells.of([Source(values, boxes, offsets)], frames, frame, values.dtype, outside=float("-inf"))
    out = values.new_empty(cells, values.shape[1])
    for part in parts(out_boxes, out_offsets, image, owner, values.shape[1]):
        index = source.index([part.owner], part.image, *part.read(layer)).flatten(1)
        best = source.table.index_select(0, index[:, 0])
        for tap in range(1, index.shape[1]):
            best = torch.maximum(best, source.table.index_select(0, index[:, tap]))
        out[part.cells] = best
    return out

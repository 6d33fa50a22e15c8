"""One DeconvNet stage on windows, unpool with switches -> ReLU -> transposed convolution, in plain PyTorch.

With v the values (of window p where it has the cell, else of frame image[p], else zero), s the switches and w the
forward convolution's weight:

    u[p, c, y, x] = sum (or the last) of v[p, c, i, j] over the pooling windows (i, j) whose switch points at (y, x)
    out[i, d] = sum over c, ky, kx of w[c, d, ky, kx] * max(u[p, c, (y + pad - ky * d) / s, (x + pad - kx * d) / s], 0)

with (p, y, x) the window and the place of output cell i. The unpooled cells that the outputs need are windows,
too.
"""

from __future__ import annotations

import torch
from torch import Tensor

from zfkernels.geometry import Boxes, Pair, Sliding, outputs_touched
from zfkernels.ops._window_cells import Cells, Source, as_cells, parts
from zfkernels.windows import Layout


def window_unpool_relu_conv_transpose2d(
    values: Tensor,  # [cells, C]
    boxes: Tensor,  # int32 [P, 4]
    offsets: Tensor,  # int64 [P + 1]
    image: Tensor,  # int64 [P]
    frames: Tensor | None,  # [N, C, Hp, Wp]
    frame: Pair,  # (Hp, Wp)
    switches: Tensor | None,  # uint8 [N, C, Hp, Wp]
    weight: Tensor,  # [C, C_in / groups, kh, kw]
    out_boxes: Tensor,  # int32 [P, 4]
    out_offsets: Tensor,  # int64 [P + 1]
    owner: Tensor,  # int32 [out cells]
    cells: int,  # out cells
    pool_kernel_size: Pair,
    pool_stride: Pair,
    pool_padding: Pair,
    pool_dilation: Pair,
    unpooled_size: Pair,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
    overlap: str,
    rectify: bool,
) -> Tensor:  # [cells, C_in]
    pool = Sliding(pool_kernel_size, pool_stride, pool_padding, pool_dilation)
    conv = Sliding((weight.shape[2], weight.shape[3]), stride, padding, dilation)
    dtype = torch.promote_types(values.dtype, torch.float32)
    source = Cells.of([Source(values, boxes, offsets)], frames, frame, dtype)
    if switches is not None:
        needed = outputs_touched(Boxes.of(out_boxes), conv, unpooled_size)
        layout = Layout.of(needed, image, unpooled_size)
        unpooled = _unpool(source, switches, layout, pool, overlap)
        source = Cells.of([Source(unpooled, layout.boxes, layout.offsets)], None, unpooled_size, dtype)
    table = source.table.relu() if rectify else source.table
    out = values.new_zeros(cells, weight.shape[1] * groups, dtype=dtype)
    taps = [(ky, kx) for ky in range(conv.kernel[0]) for kx in range(conv.kernel[1])]
    places = list(parts(out_boxes, out_offsets, image, owner, out.shape[1]))
    for ky, kx in taps:
        filtered = _filter(table, weight[:, :, ky, kx].to(dtype), groups)
        for part in places:
            row, column = part.reading(conv, (ky, kx), unpooled_size)
            index = source.index([part.owner], part.image, row[:, None], column[:, None])
            out[part.cells] += filtered.index_select(0, index.flatten())
    return out.to(values.dtype)


def _unpool(source: Cells, switches: Tensor, layout: Layout, pool: Sliding, overlap: str) -> Tensor:
    """The unpooled cells of ``layout``, [cells, C]: of each, what the pooling windows over it name it for."""
    codes = as_cells(switches)
    frame = (switches.shape[2], switches.shape[3])
    out = source.table.new_zeros(layout.cells, switches.shape[1])
    for part in parts(layout.boxes, layout.offsets, layout.image, layout.owner, switches.shape[1]):
        unpooled = out[part.cells]
        # The last window in row-major order has the smallest tap, so "last" writes the largest tap first.
        for tap in reversed(range(pool.kernel[0] * pool.kernel[1])):
            row, column = part.reading(pool, (tap // pool.kernel[1], tap % pool.kernel[1]), frame)
            index = source.index([part.owner], part.image, row[:, None], column[:, None]).flatten()
            exists = (row >= 0) & (column >= 0)
            code = ((part.image * frame[0] + row) * frame[1] + column).where(exists, 0)
            named = (codes.index_select(0, code) == tap) & exists[:, None]
            value = source.table.index_select(0, index)
            if overlap == "sum":
                unpooled += torch.where(named, value, 0)
            else:
                unpooled.copy_(torch.where(named, value, unpooled))
    return out


def _filter(table: Tensor, weight: Tensor, groups: int) -> Tensor:
    """Rows [rows, C] times one tap of the filters [C, C_in / groups]: [rows, C_in], the last row zero."""
    if groups == 1:
        filtered = table @ weight
    elif weight.shape[1] == 1 and groups == weight.shape[0]:
        filtered = table * weight[:, 0]
    else:
        each = table.view(len(table), groups, -1).transpose(0, 1)
        filtered = torch.bmm(each, weight.view(groups, -1, weight.shape[1]))
        filtered = filtered.transpose(0, 1).reshape(len(table), -1)
    filtered[-1] = 0  # of an infinite filter, too
    return filtered

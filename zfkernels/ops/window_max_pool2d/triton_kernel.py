"""Max-pooling of windows in their frames in Triton, the gather of what lies around a window fused into it.

    out[i, c] = max over ky, kx of cell(p, y * s - pad + ky * d, x * s - pad + kx * d)[c]

with (p, y, x) the window and the place of output cell i, and cell that of window p where it has one, else that of frame
image[p]. A program owns a tile of cells of all windows times channels. Each cell decides once per tap whether it reads
the window or the frame: one pointer, one load of 16 bytes.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from zfkernels.geometry import Pair
from zfkernels.ops._triton_cells import aligned, in_frame, place_of, rows, seen, window_at
from zfkernels.ops._triton_launch import channels_last, elements, index_type, launch, power_of_two

UNROLLED = 16  # cells of a pooling window whose loads are all in flight at once


@triton.jit
def window_max_pool_kernel(
    values_ptr,  # [cells, C], rows ``stride`` apart
    boxes_ptr,  # int32 [P, 4]
    offsets_ptr,  # int64 [P + 1]
    image_ptr,  # int64 [P]
    frames_ptr,  # [N, H, W, C] or None
    out_boxes_ptr,  # int32 [P, 4]
    out_offsets_ptr,  # int64 [P + 1]
    owner_ptr,  # int32 [CELLS]
    out_ptr,  # [CELLS, C]
    CELLS, stride, C, H, W,
    KH: tl.constexpr, KW: tl.constexpr, SH: tl.constexpr, SW: tl.constexpr,
    PH: tl.constexpr, PW: tl.constexpr, DH: tl.constexpr, DW: tl.constexpr,
    ALIGNED: tl.constexpr, INDEX: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, UNROLL: tl.constexpr,
):  # fmt: skip
    cell = tl.program_id(0).to(INDEX) * ROWS + tl.arange(0, ROWS)
    channel = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    live = cell < CELLS
    window, y, x = place_of(cell, live, owner_ptr, out_boxes_ptr, out_offsets_ptr, INDEX)
    top, left, height, width, first = window_at(window, boxes_ptr, offsets_ptr, INDEX)
    image = tl.load(image_ptr + window).to(INDEX)
    best = tl.full((ROWS, COLUMNS), float("-inf"), tl.float32)
    for tap in tl.range(0, KH * KW, loop_unroll_factor=UNROLL):
        row = y * SH - PH + tap // KW * DH
        column = x * SW - PW + tap % KW * DW
        source, exists = seen(
            row, column, live, top, left, height, width, first, image, values_ptr, frames_ptr, stride, C, H, W,
            ALIGNED, INDEX,
        )  # fmt: skip
        mask = exists[:, None] & (channel < C)[None, :]
        value = tl.load(source[:, None] + channel[None, :], mask=mask, other=float("-inf")).to(tl.float32)
        if frames_ptr is None:  # zeros around the windows, up to the border
            inside, _ = in_frame(row, column, image, H, W, INDEX)
            value = tl.where((inside & ~exists)[:, None], 0.0, value)
        best = tl.where((value > best) | (value != value), value, best)
    out = out_ptr + (cell * C)[:, None] + channel[None, :]
    tl.store(out, best.to(out_ptr.dtype.element_ty), mask=live[:, None] & (channel < C)[None, :])


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
    channels = values.shape[1]
    values, frames = rows(values), None if frames is None else channels_last(frames)
    out = values.new_empty(cells, channels)
    block, taps = power_of_two(channels, 4, 128), kernel_size[0] * kernel_size[1]
    launch(
        window_max_pool_kernel, (triton.cdiv(cells, elements() // block), triton.cdiv(channels, block)), values,
        values, boxes.contiguous(), offsets.contiguous(), image.contiguous(), frames,
        out_boxes.contiguous(), out_offsets.contiguous(), owner.contiguous(), out,
        cells, values.stride(0), channels, *frame, *kernel_size, *stride, *padding, *dilation,
        ALIGNED=aligned(values, frames, channels=channels), INDEX=index_type(values, frames, out, boxes, out_boxes),
        ROWS=elements() // block, COLUMNS=block, UNROLL=taps if taps <= UNROLLED else 1,
    )  # fmt: skip
    return out

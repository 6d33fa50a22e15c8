"""Sum or maximum over each frame with a window's cells in place of the frame's, in Triton.

    out[p, c] = sum (or max) over y, x of cell(p, y, x)[c]

with cell that of window p where it has one, else that of frame image[p], else zero. A program owns a window and a block
of channels, and goes through the frame in row-major order, some cells at a time: each lane takes every ROWS-th cell,
the lanes are brought together at the end. The order is fixed; nothing is subtracted; sums are in float32.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from zfkernels.geometry import Pair
from zfkernels.ops._triton_cells import aligned, rows, seen, window_at
from zfkernels.ops._triton_launch import channels_last, elements, index_type, launch, power_of_two


@triton.jit
def together(one, other, MAXIMUM: tl.constexpr):
    """The sum or the maximum of two; a NaN goes before all numbers."""
    return tl.where((other > one) | (other != other), other, one) if MAXIMUM else one + other


@triton.jit
def window_reduce_kernel(
    values_ptr,  # [cells, C], rows ``stride`` apart
    boxes_ptr,  # int32 [P, 4]
    offsets_ptr,  # int64 [P + 1]
    image_ptr,  # int64 [P]
    frames_ptr,  # [N, H, W, C] or None
    out_ptr,  # [P, C]
    FRAME,  # H W
    stride, C, H, W,
    MAXIMUM: tl.constexpr, ALIGNED: tl.constexpr, INDEX: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    window = tl.program_id(0).to(INDEX)
    channel = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    top, left, height, width, first = window_at(window, boxes_ptr, offsets_ptr, INDEX)
    image = tl.load(image_ptr + window).to(INDEX)
    nothing = float("-inf") if MAXIMUM else 0.0
    total = tl.full((ROWS, COLUMNS), nothing, tl.float32)
    if frames_ptr is None:
        cells = height.to(INDEX) * width
        for start in tl.range(0, cells, ROWS):
            cell = start + tl.arange(0, ROWS).to(INDEX)
            source = values_ptr + (first + cell) * stride
            if ALIGNED:
                source = tl.multiple_of(source, 16)
            mask = (cell < cells)[:, None] & (channel < C)[None, :]
            value = tl.load(source[:, None] + channel[None, :], mask=mask, other=nothing).to(tl.float32)
            total = together(total, value, MAXIMUM)
        if MAXIMUM:
            total = tl.where((cells < FRAME) & (total < 0), 0.0, total)  # zeros around the window; a NaN stays
    else:
        for start in tl.range(0, FRAME, ROWS):
            cell = start + tl.arange(0, ROWS).to(INDEX)
            source, exists = seen(
                (cell // W).to(tl.int32), (cell % W).to(tl.int32), cell < FRAME, top, left, height, width, first, image,
                values_ptr, frames_ptr, stride, C, H, W, ALIGNED, INDEX,
            )  # fmt: skip
            mask = exists[:, None] & (channel < C)[None, :]
            value = tl.load(source[:, None] + channel[None, :], mask=mask, other=nothing).to(tl.float32)
            total = together(total, value, MAXIMUM)
    if MAXIMUM:
        lost = tl.max((total != total).to(tl.int32), 0) == 1
        result = tl.where(lost, float("nan"), tl.max(tl.where(total != total, nothing, total), 0))
    else:
        result = tl.sum(total, 0)
    tl.store(out_ptr + (window * C + channel), result.to(out_ptr.dtype.element_ty), mask=channel < C)


def window_reduce(
    values: Tensor,  # [cells, C]
    boxes: Tensor,  # int32 [P, 4]
    offsets: Tensor,  # int64 [P + 1]
    image: Tensor,  # int64 [P]
    frames: Tensor | None,  # [N, C, H, W]
    frame: Pair,  # (H, W)
    how: str,
) -> Tensor:  # [P, C]
    count, channels = boxes.shape[0], values.shape[1]
    values, frames = rows(values), None if frames is None else channels_last(frames)
    out = values.new_empty(count, channels)
    block = power_of_two(channels, 4, 64)
    launch(
        window_reduce_kernel, (count, triton.cdiv(channels, block)), values,
        values, boxes.contiguous(), offsets.contiguous(), image.contiguous(), frames, out,
        frame[0] * frame[1], values.stride(0), channels, *frame, MAXIMUM=how == "max",
        ALIGNED=aligned(values, frames, channels=channels), INDEX=index_type(values, frames, out, boxes),
        ROWS=elements() // block, COLUMNS=block,
    )  # fmt: skip
    return out

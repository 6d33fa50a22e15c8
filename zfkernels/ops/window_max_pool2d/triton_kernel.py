"""Max-pooling of windows in their frames in Triton, the gather of what lies around a window fused into it.

    out[p, c, y, x] = max over the cells (ky, kx) of layer[p, c, Y s - p + ky d, X s - p + kx d],
    (Y, X) = out_origins[p] + (y, x), layer[p] = values[p] inside the window at origins[p], frames[image[p]] around it

All maps are channels last. The rows of a tile are places of all windows, one after the other, its columns channels. A
place decides once per cell whether it reads the window or the frame: one pointer, one load of 16 bytes.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from zfkernels.ops._checks import empty_channels_last
from zfkernels.ops._triton_launch import TILE, channels_last, index_type, launch, power_of_two
from zfkernels.windows import Pair

UNROLLED = 16  # cells of a window whose loads are all in flight at once


@triton.jit
def window_max_pool_kernel(
    values_ptr,  # [P, h, w, C]
    origins_ptr,  # int32 [P, 2]
    image_ptr,  # int64 [P]
    frames_ptr,  # [N, H, W, C]
    out_origins_ptr,  # int32 [P, 2]
    out_ptr,  # [P, OH, OW, C]
    P,
    C,
    HW,  # h
    WW,  # w
    H,
    W,
    OH,
    OW,
    KH: tl.constexpr,
    KW: tl.constexpr,
    SH: tl.constexpr,
    SW: tl.constexpr,
    PH: tl.constexpr,
    PW: tl.constexpr,
    DH: tl.constexpr,
    DW: tl.constexpr,
    ALIGNED: tl.constexpr,  # C takes a multiple of 16 bytes
    INDEX: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    UNROLL: tl.constexpr,
):
    row = tl.program_id(0).to(INDEX) * ROWS + tl.arange(0, ROWS)
    channel = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    live = row < P * OH * OW
    window = tl.where(live, row // (OH * OW), 0)
    place = row % (OH * OW)
    top = (tl.load(out_origins_ptr + 2 * window) + place // OW) * SH - PH
    left = (tl.load(out_origins_ptr + 2 * window + 1) + place % OW) * SW - PW
    window_top = tl.load(origins_ptr + 2 * window)
    window_left = tl.load(origins_ptr + 2 * window + 1)
    in_values = window * (HW * WW)
    in_frames = tl.load(image_ptr + window).to(INDEX) * (H * W)
    best = tl.full((ROWS, COLUMNS), float("-inf"), tl.float32)
    for tap in tl.range(0, KH * KW, loop_unroll_factor=UNROLL):
        y = top + tap // KW * DH
        x = left + tap % KW * DW
        inside = live & (y >= 0) & (y < H) & (x >= 0) & (x < W)
        wy = y - window_top
        wx = x - window_left
        changed = (wy >= 0) & (wy < HW) & (wx >= 0) & (wx < WW)
        from_window = values_ptr + (in_values + wy * WW + wx) * C
        from_frame = frames_ptr + (in_frames + y * W + x) * C
        source = tl.where(changed, from_window, from_frame)
        if ALIGNED:
            source = tl.multiple_of(source, 16)
        mask = inside[:, None] & (channel < C)[None, :]
        value = tl.load(source[:, None] + channel[None, :], mask=mask, other=float("-inf")).to(tl.float32)
        best = tl.where((value > best) | (value != value), value, best)
    out = out_ptr + (row * C)[:, None] + channel[None, :]
    tl.store(out, best.to(out_ptr.dtype.element_ty), mask=live[:, None] & (channel < C)[None, :])


def window_max_pool2d(
    values: Tensor,  # [P, C, h, w]
    origins: Tensor,  # int32 [P, 2]
    image: Tensor,  # int64 [P]
    frames: Tensor,  # [N, C, H, W]
    kernel_size: Pair,
    out_origins: Tensor,  # int32 [P, 2]
    out_size: Pair,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
) -> Tensor:  # [P, C, *out_size]
    count, channels = values.shape[:2]
    values, frames = channels_last(values), channels_last(frames)
    out = empty_channels_last(values, (count, channels, *out_size))
    rows, block = count * out_size[0] * out_size[1], power_of_two(channels, 4, 128)
    cells = kernel_size[0] * kernel_size[1]
    launch(
        window_max_pool_kernel, (triton.cdiv(rows, TILE // block), triton.cdiv(channels, block)), values,
        values, origins.contiguous(), image.contiguous(), frames, out_origins.contiguous(), out,
        count, channels, values.shape[2], values.shape[3], frames.shape[2], frames.shape[3], *out_size,
        *kernel_size, *stride, *padding, *dilation, ALIGNED=channels * values.element_size() % 16 == 0,
        INDEX=index_type(values, frames, out),
        ROWS=TILE // block, COLUMNS=block, UNROLL=cells if cells <= UNROLLED else 1,
    )  # fmt: skip
    return out

"""Max-pooling with switches of one byte in Triton.

    out[n, c, y, x] = max over the cells (ky, kx) of the window of x[n, c, y s - p + ky d, x s - p + kx d]

A program pools a tile of outputs that lie side by side in memory. Channels last: the rows of the tile are places and
its columns channels, so that each cell of the window is read and each result written 16 bytes wide. Contiguous: the
rows are planes and the columns places. Which element wins is decided in float32, which holds all smaller types.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from zfkernels.geometry import Pair, Sliding
from zfkernels.ops._allocation import empty_like_format
from zfkernels.ops._triton_launch import elements, index_type, launch, power_of_two

UNROLLED = 16  # cells of a window whose loads are all in flight at once


@triton.jit
def max_pool_kernel(
    input_ptr,  # [N, C, H, W], any strides
    values_ptr,  # [N, C, HP, WP], contiguous or channels last
    switches_ptr,  # uint8, as the values
    N,
    C,
    H,
    W,
    HP,
    WP,
    stride_n,
    stride_c,
    stride_h,
    stride_w,
    KH: tl.constexpr,
    KW: tl.constexpr,
    SH: tl.constexpr,
    SW: tl.constexpr,
    PH: tl.constexpr,
    PW: tl.constexpr,
    DH: tl.constexpr,
    DW: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,
    INDEX: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    UNROLL: tl.constexpr,
):
    row = tl.program_id(0).to(INDEX) * ROWS + tl.arange(0, ROWS)[:, None]
    column = tl.program_id(1).to(INDEX) * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    if CHANNELS_LAST:
        live = (row < N * HP * WP) & (column < C)
        place = row % (HP * WP)
        base = row // (HP * WP) * stride_n + column * stride_c
        out = row * C + column
    else:
        live = (row < N * C) & (column < HP * WP)
        place = column
        base = row // C * stride_n + row % C * stride_c
        out = row * (HP * WP) + column
    top = place // WP * SH - PH
    left = place % WP * SW - PW
    best = tl.full((ROWS, COLUMNS), float("-inf"), tl.float32)
    cell = tl.full((ROWS, COLUMNS), -1, tl.int32)
    for tap in tl.range(0, KH * KW, loop_unroll_factor=UNROLL):
        y = top + tap // KW * DH
        x = left + tap % KW * DW
        inside = live & (y >= 0) & (y < H) & (x >= 0) & (x < W)
        value = tl.load(input_ptr + base + (y * stride_h + x * stride_w), mask=inside, other=float("-inf"))
        value = value.to(tl.float32)
        # The first maximum; a NaN beats everything, the last one of several too; a window of -inf has a switch as well.
        wins = inside & ((value > best) | (value != value) | (cell < 0))
        best = tl.where(wins, value, best)
        cell = tl.where(wins, tap, cell)
    tl.store(values_ptr + out, best.to(values_ptr.dtype.element_ty), mask=live)
    tl.store(switches_ptr + out, cell.to(tl.uint8), mask=live)


def max_pool2d_with_switches(
    input: Tensor,  # [N, C, H, W]
    kernel_size: Pair,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    ceil_mode: bool,
) -> tuple[Tensor, Tensor]:  # [N, C, Hp, Wp], uint8 [N, C, Hp, Wp]
    images, channels, height, width = input.shape
    size = Sliding(kernel_size, stride, padding, dilation).output_size((height, width), ceil_mode)
    values = empty_like_format(input, (images, channels, *size))
    switches = torch.empty_like(values, dtype=torch.uint8)
    last = not values.is_contiguous()
    places = size[0] * size[1]
    rows, columns = (images * places, channels) if last else (images * channels, places)
    block = power_of_two(columns, 4, 128 if last else 512)
    cells = kernel_size[0] * kernel_size[1]
    launch(
        max_pool_kernel, (triton.cdiv(rows, elements() // block), triton.cdiv(columns, block)), input,
        input, values, switches, images, channels, height, width, *size, *input.stride(),
        *kernel_size, *stride, *padding, *dilation, CHANNELS_LAST=last, INDEX=index_type(input, values),
        ROWS=elements() // block, COLUMNS=block, UNROLL=cells if cells <= UNROLLED else 1,
    )  # fmt: skip
    return values, switches

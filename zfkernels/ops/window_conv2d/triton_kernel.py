"""Convolution of windows in their frames in Triton, the gather of what lies around a window fused into it.

    out[p, :, y, x] = bias + sum over c, ky, kx of w[:, c, ky, kx] layer[p, c, Y s - p + ky d, X s - p + kx d], ReLU,
    (Y, X) = out_origins[p] + (y, x), layer[p] = values[p] inside the window at origins[p], frames[image[p]] around it

An implicit matrix product [places of all windows, taps x channels] x [taps x channels, output channels] on ``tl.dot``,
all maps channels last. A place decides once per tap whether it reads the window or the frame: one pointer, one copy of
16 bytes, so that the operand goes from memory to shared memory without passing registers. The filters are read once
for each block of places of all windows.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from zfkernels.ops._checks import empty_channels_last
from zfkernels.ops._triton_launch import (
    ROWS,
    MatrixTile,
    channels_last,
    dense,
    dot_precision,
    index_type,
    launch,
    matrix_tiles,
    power_of_two,
    shape_class,
    tensor_products,
    warpgroup_products,
)
from zfkernels.tuning import choose, gpu_name
from zfkernels.windows import Pair


@triton.jit
def window_conv_kernel(
    values_ptr,  # [P, h, w, C]
    origins_ptr,  # int32 [P, 2]
    image_ptr,  # int64 [P]
    frames_ptr,  # [N, H, W, C]
    weight_ptr,  # [KH, KW, CG, groups OG]
    bias_ptr,  # [groups OG] or None
    out_origins_ptr,  # int32 [P, 2]
    out_ptr,  # [P, OH, OW, groups OG]
    M,  # P OH OW rows
    C,
    CG,  # channels of a group
    OG,  # output channels of a group
    HW,  # h
    WW,  # w
    H, W, OH, OW,
    KH: tl.constexpr, KW: tl.constexpr, SH: tl.constexpr, SW: tl.constexpr,
    PH: tl.constexpr, PW: tl.constexpr, DH: tl.constexpr, DW: tl.constexpr,
    ALIGNED: tl.constexpr,  # channels and groups of channels take a multiple of 16 bytes
    RELU: tl.constexpr, PRECISION: tl.constexpr, INDEX: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(INDEX) * BLOCK_M + tl.arange(0, BLOCK_M)
    column = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    group = tl.program_id(2)
    outputs = tl.num_programs(2) * OG
    live = row < M
    window = tl.where(live, row // (OH * OW), 0)
    top = (tl.load(out_origins_ptr + 2 * window) + row // OW % OH) * SH - PH
    left = (tl.load(out_origins_ptr + 2 * window + 1) + row % OW) * SW - PW
    window_top = tl.load(origins_ptr + 2 * window)
    window_left = tl.load(origins_ptr + 2 * window + 1)
    in_values = window * (HW * WW)
    in_frames = tl.load(image_ptr + window).to(INDEX) * (H * W)
    total = tl.full((BLOCK_M, BLOCK_N), 0.0, tl.float32)
    for tap in tl.range(0, KH * KW):
        y = top + tap // KW * DH
        x = left + tap % KW * DW
        inside = live & (y.to(tl.uint32) < H) & (x.to(tl.uint32) < W)
        wy = y - window_top
        wx = x - window_left
        changed = (wy.to(tl.uint32) < HW) & (wx.to(tl.uint32) < WW)
        from_window = values_ptr + (in_values + wy * WW + wx) * C
        from_frame = frames_ptr + (in_frames + y * W + x) * C
        source = tl.where(changed, from_window, from_frame) + group * CG
        if ALIGNED:
            source = tl.multiple_of(source, 16)
        taps = weight_ptr + (tap * CG).to(INDEX) * outputs + group * OG
        for k in tl.range(0, CG, BLOCK_K, num_stages=STAGES):
            within = k + tl.arange(0, BLOCK_K)
            in_group = within < CG
            cells = tl.load(source[:, None] + within[None, :], mask=inside[:, None] & in_group[None, :], other=0.0)
            mask = in_group[:, None] & (column < OG)[None, :]
            filters = tl.load(taps + (within * outputs)[:, None] + column[None, :], mask=mask, other=0.0)
            total = tl.dot(cells, filters, total, input_precision=PRECISION)
    if bias_ptr is not None:
        total += tl.load(bias_ptr + group * OG + column, mask=column < OG, other=0.0).to(tl.float32)[None, :]
    if RELU:
        total = tl.where(total < 0, 0.0, total)  # a NaN stays, as in torch.relu
    out = out_ptr + (row * outputs + group * OG)[:, None] + column[None, :]
    tl.store(out, total.to(out_ptr.dtype.element_ty), mask=live[:, None] & (column < OG)[None, :])


def window_conv2d(
    values: Tensor,  # [P, C, h, w]
    origins: Tensor,  # int32 [P, 2]
    image: Tensor,  # int64 [P]
    frames: Tensor,  # [N, C, H, W]
    weight: Tensor,  # [C_out, C / groups, kh, kw]
    bias: Tensor | None,  # [C_out]
    out_origins: Tensor,  # int32 [P, 2]
    out_size: Pair,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
    relu: bool,
) -> Tensor:  # [P, C_out, *out_size]
    count, channels = values.shape[:2]
    outputs, in_group = weight.shape[0] // groups, weight.shape[1]
    values, frames = channels_last(values), channels_last(frames)
    filters = weight.permute(2, 3, 1, 0).contiguous()
    out = empty_channels_last(values, (count, weight.shape[0], *out_size))
    rows = count * out_size[0] * out_size[1]

    def convolution(tile: MatrixTile) -> None:
        launch(
            window_conv_kernel, (triton.cdiv(rows, tile.rows), triton.cdiv(outputs, tile.columns), groups), values,
            values, origins.contiguous(), image.contiguous(), frames, filters, dense(bias), out_origins.contiguous(),
            out, rows, channels, in_group, outputs, values.shape[2], values.shape[3], frames.shape[2], frames.shape[3],
            *out_size, weight.shape[2], weight.shape[3], *stride, *padding, *dilation,
            ALIGNED=in_group * values.element_size() % 16 == 0, RELU=relu, PRECISION=dot_precision(),
            INDEX=index_type(values, frames, out), BLOCK_M=tile.rows, BLOCK_N=tile.columns,
            BLOCK_K=tile.block_k, STAGES=tile.stages, num_warps=tile.warps,
        )  # fmt: skip

    block_k, stages = (64, 3) if warpgroup_products(values.device) else (32, 4)  # operands in registers: 64 spill
    tiles = matrix_tiles(ROWS, outputs, power_of_two(in_group, 16, block_k), stages, products=tensor_products(values))
    key = shape_class("window_conv2d", values.dtype, rows, outputs, in_group, weight.shape[2], weight.shape[3])
    convolution(choose(key, tiles, convolution, gpu_name(values.device)))
    return out

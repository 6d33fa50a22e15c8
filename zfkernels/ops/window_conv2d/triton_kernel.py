"""Convolution of windows in their frames in Triton, the gather of what lies around a window fused into it.

    out[i, o] = bias[o] + sum over c, ky, kx of weight[o, c, ky, kx] * cell(p, y', x')[c]
    with y' = y * stride - padding + ky * dilation, and x' likewise, then the ReLU

with (p, y, x) the window and the place of output cell i, and cell that of window p where it has one, else that of frame
image[p]. An implicit matrix product [cells of all windows, taps x channels] x [taps x channels, output channels] on
``tl.dot``. A cell decides once per tap whether it reads the window or the frame: one pointer, one copy of 16 bytes, so
that the operand goes from memory to shared memory without passing registers. The filters lie channels last, as the
sweep keeps them: no copy, and the order that the products of tf32 on sm_90 ask for.

Filters of one channel each (depthwise) are no matrix product: there a program owns cells times output channels.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from zfkernels.geometry import Pair
from zfkernels.ops._triton_cells import aligned, place_of, rows, seen, window_at
from zfkernels.ops._triton_launch import (
    MatrixTile,
    channels_last,
    dense,
    dot_precision,
    elements,
    index_type,
    launch,
    matrix_tiles,
    power_of_two,
    product_rows,
    shape_class,
    tensor_products,
    warpgroup_products,
)
from zfkernels.tuning import choose, gpu_name

UNROLLED = 16  # taps of a depthwise filter whose loads are all in flight at once


@triton.jit
def window_conv_kernel(
    values_ptr,  # [cells, C], rows ``stride`` apart
    boxes_ptr,  # int32 [P, 4]
    offsets_ptr,  # int64 [P + 1]
    image_ptr,  # int64 [P]
    frames_ptr,  # [N, H, W, C] or None
    out_boxes_ptr,  # int32 [P, 4]
    out_offsets_ptr,  # int64 [P + 1]
    owner_ptr,  # int32 [CELLS]
    weight_ptr,  # [groups OG, KH, KW, CG]
    bias_ptr,  # [groups OG] or None
    out_ptr,  # [CELLS, groups OG]
    CELLS, stride, C, H, W,
    CG,  # channels of a group
    OG,  # output channels of a group
    KH: tl.constexpr, KW: tl.constexpr, SH: tl.constexpr, SW: tl.constexpr,
    PH: tl.constexpr, PW: tl.constexpr, DH: tl.constexpr, DW: tl.constexpr,
    ALIGNED: tl.constexpr, RELU: tl.constexpr, PRECISION: tl.constexpr, INDEX: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    cell = tl.program_id(0).to(INDEX) * BLOCK_M + tl.arange(0, BLOCK_M)
    column = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    group = tl.program_id(2)
    live = cell < CELLS
    window, y, x = place_of(cell, live, owner_ptr, out_boxes_ptr, out_offsets_ptr, INDEX)
    top, left, height, width, first = window_at(window, boxes_ptr, offsets_ptr, INDEX)
    image = tl.load(image_ptr + window).to(INDEX)
    filters_ptr = weight_ptr + (group * OG + column).to(INDEX) * (KH * KW * CG)
    total = tl.full((BLOCK_M, BLOCK_N), 0.0, tl.float32)
    for tap in tl.range(0, KH * KW):
        source, exists = seen(
            y * SH - PH + tap // KW * DH, x * SW - PW + tap % KW * DW, live, top, left, height, width, first, image,
            values_ptr + group * CG, None if frames_ptr is None else frames_ptr + group * CG, stride, C, H, W,
            ALIGNED, INDEX,
        )  # fmt: skip
        for k in tl.range(0, CG, BLOCK_K, num_stages=STAGES):
            within = k + tl.arange(0, BLOCK_K)
            in_group = within < CG
            cells = tl.load(source[:, None] + within[None, :], mask=exists[:, None] & in_group[None, :], other=0.0)
            mask = in_group[:, None] & (column < OG)[None, :]
            filters = tl.load(filters_ptr[None, :] + (tap * CG + within)[:, None], mask=mask, other=0.0)
            total = tl.dot(cells, filters, total, input_precision=PRECISION)
    if bias_ptr is not None:
        total += tl.load(bias_ptr + group * OG + column, mask=column < OG, other=0.0).to(tl.float32)[None, :]
    if RELU:
        total = tl.where(total < 0, 0.0, total)  # a NaN stays, as in torch.relu
    out = out_ptr + (cell * (tl.num_programs(2) * OG) + group * OG)[:, None] + column[None, :]
    tl.store(out, total.to(out_ptr.dtype.element_ty), mask=live[:, None] & (column < OG)[None, :])


@triton.jit
def window_depthwise_kernel(
    values_ptr,  # [cells, C], rows ``stride`` apart
    boxes_ptr,  # int32 [P, 4]
    offsets_ptr,  # int64 [P + 1]
    image_ptr,  # int64 [P]
    frames_ptr,  # [N, H, W, C] or None
    out_boxes_ptr,  # int32 [P, 4]
    out_offsets_ptr,  # int64 [P + 1]
    owner_ptr,  # int32 [CELLS]
    weight_ptr,  # [KH, KW, C TIMES]
    bias_ptr,  # [C TIMES] or None
    out_ptr,  # [CELLS, C TIMES]
    CELLS, stride, C, H, W,
    TIMES: tl.constexpr,  # output channels of each channel
    KH: tl.constexpr, KW: tl.constexpr, SH: tl.constexpr, SW: tl.constexpr,
    PH: tl.constexpr, PW: tl.constexpr, DH: tl.constexpr, DW: tl.constexpr,
    ALIGNED: tl.constexpr, RELU: tl.constexpr, INDEX: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, UNROLL: tl.constexpr,
):  # fmt: skip
    cell = tl.program_id(0).to(INDEX) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    live = cell < CELLS
    outputs = C * TIMES
    window, y, x = place_of(cell, live, owner_ptr, out_boxes_ptr, out_offsets_ptr, INDEX)
    top, left, height, width, first = window_at(window, boxes_ptr, offsets_ptr, INDEX)
    image = tl.load(image_ptr + window).to(INDEX)
    total = tl.full((ROWS, COLUMNS), 0.0, tl.float32)
    for tap in tl.range(0, KH * KW, loop_unroll_factor=UNROLL):
        source, exists = seen(
            y * SH - PH + tap // KW * DH, x * SW - PW + tap % KW * DW, live, top, left, height, width, first, image,
            values_ptr, frames_ptr, stride, C, H, W, ALIGNED, INDEX,
        )  # fmt: skip
        mask = exists[:, None] & (column < outputs)[None, :]
        value = tl.load(source[:, None] + (column // TIMES)[None, :], mask=mask, other=0.0).to(tl.float32)
        filters = tl.load(weight_ptr + tap * outputs + column, mask=column < outputs, other=0.0).to(tl.float32)
        total += value * filters[None, :]
    if bias_ptr is not None:
        total += tl.load(bias_ptr + column, mask=column < outputs, other=0.0).to(tl.float32)[None, :]
    if RELU:
        total = tl.where(total < 0, 0.0, total)
    out = out_ptr + (cell * outputs)[:, None] + column[None, :]
    tl.store(out, total.to(out_ptr.dtype.element_ty), mask=live[:, None] & (column < outputs)[None, :])


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
    channels, (columns, in_group, *kernel) = values.shape[1], weight.shape
    outputs = columns // groups
    values, frames = rows(values), None if frames is None else channels_last(frames)
    out = values.new_empty(cells, columns)
    places = (
        values, boxes.contiguous(), offsets.contiguous(), image.contiguous(), frames,
        out_boxes.contiguous(), out_offsets.contiguous(), owner.contiguous(),
    )  # fmt: skip
    index = index_type(values, frames, out, boxes, out_boxes)
    sizes = (cells, values.stride(0), channels, *frame)
    geometry = (*kernel, *stride, *padding, *dilation)
    if in_group == 1 and groups > 1:
        block, taps = power_of_two(columns, 4, 128), kernel[0] * kernel[1]
        launch(
            window_depthwise_kernel, (triton.cdiv(cells, elements() // block), triton.cdiv(columns, block)), values,
            *places, weight.permute(1, 2, 3, 0).contiguous(), dense(bias), out, *sizes, outputs, *geometry,
            ALIGNED=aligned(values, frames, channels=channels), RELU=relu, INDEX=index,
            ROWS=elements() // block, COLUMNS=block, UNROLL=taps if taps <= UNROLLED else 1,
        )  # fmt: skip
        return out
    filters = weight.permute(0, 2, 3, 1).contiguous()

    def convolution(tile: MatrixTile) -> None:
        launch(
            window_conv_kernel, (triton.cdiv(cells, tile.rows), triton.cdiv(outputs, tile.columns), groups), values,
            *places, filters, dense(bias), out, *sizes, in_group, outputs, *geometry,
            ALIGNED=aligned(values, frames, channels=in_group), RELU=relu, PRECISION=dot_precision(), INDEX=index,
            BLOCK_M=tile.rows, BLOCK_N=tile.columns, BLOCK_K=tile.block_k, STAGES=tile.stages, num_warps=tile.warps,
        )  # fmt: skip

    block_k, stages = (64, 3) if warpgroup_products(values.device) else (32, 4)  # operands in registers: 64 spill
    tiles = matrix_tiles(
        product_rows(), outputs, power_of_two(in_group, 16, block_k), stages, products=tensor_products(values)
    )  # fmt: skip
    key = shape_class("window_conv2d", values.dtype, cells, outputs, in_group, *kernel)
    convolution(choose(key, tiles, convolution, gpu_name(values.device)))
    return out

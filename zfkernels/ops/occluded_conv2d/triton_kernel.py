"""The first convolution of an occlusion sweep in Triton: all boxes in one launch, no occluded image in memory.

With q the box boxes[p], clipped to the image, without the cells that a mask leaves out, and f the fill:

    x[p, y, x] = f inside q, images[image[p], :, y, x] elsewhere
    out[i, :] = (conv2d(x[p]) + bias)[:, y, x], then ReLU

with (p, y, x) the window and the place of output cell i. An implicit matrix product [cells of all windows, taps x
channels] x [taps x channels, output channels] on ``tl.dot``. The box goes in while the operand is gathered: one
comparison of offsets in each direction, and where fills or masks are windows, a look into theirs.

The images are padded with zeros and to a multiple of four channels first, so that the gather needs no test of borders
and reads all channels of a pixel at once. Fills and filters get as many channels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

from zfkernels.geometry import Pair
from zfkernels.ops._triton_cells import in_window, place_of, window_at
from zfkernels.ops._triton_launch import (
    MatrixTile,
    dense,
    dot_precision,
    index_type,
    launch,
    matrix_tiles,
    product_rows,
    shape_class,
    tensor_products,
    warpgroup_products,
)
from zfkernels.tuning import choose, gpu_name

# What a box shows: one pixel, a pixel for each box, an image, or windows.
CHANNELS, PIXELS, IMAGE, WINDOWS = (tl.constexpr(kind) for kind in range(4))


@triton.jit
def occluded_conv_kernel(
    images_ptr,  # [N, H + 2 PH, W + 2 PW, groups CG]
    fill_ptr,  # [groups CG], [P, groups CG], as the images, or [fill cells, groups CG]
    fill_boxes_ptr,  # int32 [P, 4] or None
    fill_offsets_ptr,  # int64 [P + 1] or None
    mask_ptr,  # uint8 [mask cells] or None
    mask_boxes_ptr,  # int32 [P, 4] or None
    mask_offsets_ptr,  # int64 [P + 1] or None
    weight_ptr,  # [groups OG, KH, KW, CG]
    bias_ptr,  # [groups OG] or None
    boxes_ptr,  # int32 [P, 4]
    image_ptr,  # int64 [P]
    out_boxes_ptr,  # int32 [P, 4]
    out_offsets_ptr,  # int64 [P + 1]
    owner_ptr,  # int32 [CELLS]
    out_ptr,  # [CELLS, groups OG]
    CELLS, H, W,
    OG,  # output channels of a group
    CG: tl.constexpr, KH: tl.constexpr, KW: tl.constexpr, SH: tl.constexpr, SW: tl.constexpr,
    PH: tl.constexpr, PW: tl.constexpr, DH: tl.constexpr, DW: tl.constexpr,
    FILL: tl.constexpr, RELU: tl.constexpr, PRECISION: tl.constexpr, INDEX: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    cell = tl.program_id(0).to(INDEX) * BLOCK_M + tl.arange(0, BLOCK_M)
    column = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    group = tl.program_id(2)
    groups = tl.num_programs(2)
    live = cell < CELLS
    window, y, x = place_of(cell, live, owner_ptr, out_boxes_ptr, out_offsets_ptr, INDEX)
    top = y * SH - PH  # of what an output sees
    left = x * SW - PW
    box = boxes_ptr + 4 * window
    box_top = tl.load(box)
    box_left = tl.load(box + 1)
    bottom = tl.minimum(box_top + tl.load(box + 2), H)
    right = tl.minimum(box_left + tl.load(box + 3), W)
    box_top = tl.maximum(box_top, 0)
    box_left = tl.maximum(box_left, 0)
    height = tl.maximum(bottom - box_top, 0)
    width = tl.maximum(right - box_left, 0)
    pixel = (tl.load(image_ptr + window).to(INDEX) * (H + 2 * PH) + (top + PH)) * (W + 2 * PW) + (left + PW)
    pixel = pixel * (groups * CG) + group * CG
    if FILL == WINDOWS:
        fill_top, fill_left, fill_height, fill_width, fill_first = window_at(
            window, fill_boxes_ptr, fill_offsets_ptr, INDEX
        )  # fmt: skip
    if mask_ptr is not None:
        mask_top, mask_left, mask_height, mask_width, mask_first = window_at(
            window, mask_boxes_ptr, mask_offsets_ptr, INDEX
        )  # fmt: skip
    filters_ptr = weight_ptr + (group * OG + column).to(INDEX) * (KH * KW * CG)
    total = tl.full((BLOCK_M, BLOCK_N), 0.0, tl.float32)
    for k in tl.range(0, KH * KW * CG, BLOCK_K, num_stages=STAGES):
        index = k + tl.arange(0, BLOCK_K)
        exists = index < KH * KW * CG
        channel = index % CG
        ky = index // (CG * KW) * DH
        kx = index // CG % KW * DW
        mask = live[:, None] & exists[None, :]
        row = top[:, None] + ky[None, :]
        at = left[:, None] + kx[None, :]
        hidden = ((row - box_top[:, None]).to(tl.uint32) < height[:, None]) & (
            (at - box_left[:, None]).to(tl.uint32) < width[:, None]
        )
        if mask_ptr is not None:
            has, masked = in_window(
                row, at, mask_top[:, None], mask_left[:, None], mask_height[:, None], mask_width[:, None],
                mask_first[:, None], INDEX,
            )  # fmt: skip
            hidden = hidden & has
            hidden = hidden & (tl.load(mask_ptr + masked, mask=mask & hidden, other=0) != 0)
        offset = pixel[:, None] + ((ky.to(INDEX) * (W + 2 * PW) + kx) * (groups * CG) + channel)[None, :]
        if FILL == CHANNELS:
            fill = tl.load(fill_ptr + group * CG + channel, mask=exists, other=0.0)
            seen = tl.load(images_ptr + offset, mask=mask, other=0.0)
            seen = tl.where(hidden, fill[None, :], seen)
        else:
            if FILL == PIXELS:
                shown = (window * (groups * CG) + group * CG)[:, None] + channel[None, :]
            if FILL == IMAGE:
                shown = offset
            if FILL == WINDOWS:
                has, of_fill = in_window(
                    row, at, fill_top[:, None], fill_left[:, None], fill_height[:, None], fill_width[:, None],
                    fill_first[:, None], INDEX,
                )  # fmt: skip
                hidden = hidden & has
                shown = of_fill * (groups * CG) + (group * CG + channel)[None, :]
            seen = tl.load(tl.where(hidden, fill_ptr + shown, images_ptr + offset), mask=mask, other=0.0)
        filters = tl.load(
            filters_ptr[None, :] + index[:, None], mask=exists[:, None] & (column < OG)[None, :], other=0.0
        )  # fmt: skip
        total = tl.dot(seen, filters, total, input_precision=PRECISION)
    if bias_ptr is not None:
        total += tl.load(bias_ptr + group * OG + column, mask=column < OG, other=0.0).to(tl.float32)[None, :]
    if RELU:
        total = tl.where(total < 0, 0.0, total)  # a NaN stays, as in torch.relu
    out = out_ptr + (cell * (groups * OG) + group * OG)[:, None] + column[None, :]
    tl.store(out, total.to(out_ptr.dtype.element_ty), mask=live[:, None] & (column < OG)[None, :])


def occluded_conv2d(
    images: Tensor,  # [N, C, H, W]
    weight: Tensor,  # [C_out, C / groups, kh, kw]
    bias: Tensor | None,  # [C_out]
    boxes: Tensor,  # int32 [P, 4]
    image: Tensor,  # int64 [P]
    fill: Tensor,  # [C], [P, C], [N, C, H, W], or [fill cells, C] with the two that follow
    fill_boxes: Tensor | None,  # int32 [P, 4]
    fill_offsets: Tensor | None,  # int64 [P + 1]
    mask: Tensor | None,  # bool [mask cells, 1]
    mask_boxes: Tensor | None,  # int32 [P, 4]
    mask_offsets: Tensor | None,  # int64 [P + 1]
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
    columns, _, *kernel = weight.shape
    outputs = columns // groups
    out = images.new_empty(cells, columns)
    padded, filters = _padded(images.permute(0, 2, 3, 1), groups, padding), _padded(weight.permute(0, 2, 3, 1), 1)
    if fill.dim() == 4:
        kind, shown = IMAGE, _padded(fill.permute(0, 2, 3, 1), groups, padding)
    else:
        kind = WINDOWS if fill_boxes is not None else (CHANNELS, PIXELS)[fill.dim() - 1]
        shown = _padded(fill.reshape(-1, 1, 1, fill.shape[-1]), groups)
    hidden = None if mask is None else mask.contiguous().view(torch.uint8)

    def convolution(tile: MatrixTile) -> None:
        launch(
            occluded_conv_kernel,
            (triton.cdiv(cells, tile.rows), triton.cdiv(outputs, tile.columns), groups), images,
            padded, shown, dense(fill_boxes), dense(fill_offsets), hidden, dense(mask_boxes), dense(mask_offsets),
            filters, dense(bias), boxes.contiguous(), image.contiguous(),
            out_boxes.contiguous(), out_offsets.contiguous(), owner.contiguous(), out,
            cells, images.shape[2], images.shape[3], outputs, filters.shape[3], *kernel, *stride, *padding, *dilation,
            FILL=kind.value, RELU=relu, PRECISION=dot_precision(), INDEX=index_type(padded, shown, hidden, out, boxes),
            BLOCK_M=tile.rows, BLOCK_N=tile.columns, BLOCK_K=tile.block_k, STAGES=tile.stages, num_warps=tile.warps,
        )  # fmt: skip

    key = shape_class("occluded_conv2d", images.dtype, cells, outputs, weight.shape[1], *kernel)
    wide = warpgroup_products(images.device) and images.element_size() < 4
    tiles = matrix_tiles(
        product_rows() if wide else product_rows() // 2, outputs, 32, 2, products=tensor_products(images)
    )  # fmt: skip
    convolution(choose(key, tiles, convolution, gpu_name(images.device)))
    return out


def _padded(maps: Tensor, groups: int, padding: Pair = (0, 0)) -> Tensor:
    """Maps [N, H, W, C] as [N, H + 2 ph, W + 2 pw, groups C']: C' the channels of a group up to a multiple of four."""
    in_group = maps.shape[3] // groups
    more = -in_group % 4
    if padding == (0, 0) and not more:
        return maps.contiguous()
    if not more:
        return F.pad(maps, (0, 0, padding[1], padding[1], padding[0], padding[0]))
    apart = maps.unflatten(3, (groups, in_group))
    return F.pad(apart, (0, more, 0, 0, padding[1], padding[1], padding[0], padding[0])).flatten(3)

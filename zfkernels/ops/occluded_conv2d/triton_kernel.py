"""The first convolution of an occlusion sweep in Triton: all positions in one launch, no occluded image in memory.

    x[p, c, i, j]   = fill[c] (or fill[image[p], c, i, j]) inside the square at positions[p], the clean image elsewhere
    out[p, :, y, x] = bias + sum over c, ky, kx of w[:, c, ky, kx] x[p, c, Y s - p + ky d, X s - p + kx d], then ReLU

An implicit matrix product [places of all windows, taps x channels] x [taps x channels, output channels] on ``tl.dot``.
The square goes in while the operand is gathered: one comparison of offsets in each direction. Outputs that see nothing
but the square are one vector of numbers: each window's places are counted so that these come last, the programs that
hold nothing else skip the product and write the vector.

The images are padded with zeros and to a multiple of four channels first, so that the gather needs no test of borders
and reads all channels of a pixel at once.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from zfkernels.ops._checks import empty_channels_last
from zfkernels.ops._triton_launch import (
    ROWS,
    MatrixTile,
    dense,
    dot_precision,
    index_type,
    launch,
    matrix_tiles,
    shape_class,
    tensor_products,
    warpgroup_products,
)
from zfkernels.tuning import choose, gpu_name
from zfkernels.windows import Pair, Sliding


@triton.jit
def occluded_conv_kernel(
    images_ptr,  # [N, H + 2 PH, W + 2 PW, groups CG]
    fill_ptr,  # as the images, or [groups CG]
    weight_ptr,  # [KH, KW, CG, groups OG]
    bias_ptr,  # [groups OG] or None
    constant_ptr,  # float32 [groups OG]: an output that sees the fill alone; None with a fill by image
    positions_ptr,  # int32 [P, 2]
    image_ptr,  # int64 [P]
    out_origins_ptr,  # int32 [P, 2]
    out_ptr,  # [P, OH, OW, groups OG]
    P,
    OG,  # output channels of a group
    H, W, HEIGHT, WIDTH, OH, OW,  # of the images, the square and the windows of outputs
    IH, IW,  # places that see nothing but the square, wherever it lies
    CG: tl.constexpr, KH: tl.constexpr, KW: tl.constexpr, SH: tl.constexpr, SW: tl.constexpr,
    PH: tl.constexpr, PW: tl.constexpr, DH: tl.constexpr, DW: tl.constexpr,
    RELU: tl.constexpr, PRECISION: tl.constexpr, INDEX: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(INDEX) * BLOCK_M + tl.arange(0, BLOCK_M)
    column = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    group = tl.program_id(2)
    groups = tl.num_programs(2)
    # First the places of all windows around the inner box, then those in it.
    live = row < P * (OH * OW)
    around = OH * OW - IH * IW
    inner = row - P * around
    is_inner = inner >= 0
    within_box = IH * IW + (IH * IW == 0).to(tl.int32)
    window = tl.where(live, tl.where(is_inner, inner // within_box, row // around), 0)
    position_y = tl.load(positions_ptr + 2 * window)
    position_x = tl.load(positions_ptr + 2 * window + 1)
    origin_y = tl.load(out_origins_ptr + 2 * window)
    origin_x = tl.load(out_origins_ptr + 2 * window + 1)
    box_y = tl.minimum(tl.maximum((position_y + (PH + SH - 1)) // SH - origin_y, 0), OH - IH)
    box_x = tl.minimum(tl.maximum((position_x + (PW + SW - 1)) // SW - origin_x, 0), OW - IW)
    place = row % around
    beside = place - box_y * OW
    side = OW - IW + (OW == IW).to(tl.int32)
    below = place + IH * IW
    is_above = beside < 0
    is_beside = beside < IH * (OW - IW)
    skipped = tl.where(beside % side >= box_x, IW, 0)
    y = tl.where(is_above, place // OW, tl.where(is_beside, box_y + beside // side, below // OW))
    x = tl.where(is_above, place % OW, tl.where(is_beside, beside % side + skipped, below % OW))
    in_box = inner % within_box
    columns_of_box = IW + (IW == 0).to(tl.int32)
    y = tl.where(is_inner, box_y + in_box // columns_of_box, y)
    x = tl.where(is_inner, box_x + in_box % columns_of_box, x)

    top = (origin_y + y) * SH - PH - position_y  # of what a place sees, from the square's corner
    left = (origin_x + x) * SW - PW - position_x
    height = tl.minimum(HEIGHT, H - position_y)  # the square is clipped to the image
    width = tl.minimum(WIDTH, W - position_x)
    covered = (top >= 0) & (top + (KH - 1) * DH < height) & (left >= 0) & (left + (KW - 1) * DW < width)
    stride_y = (W + 2 * PW) * (groups * CG)
    image = tl.load(image_ptr + window).to(INDEX) * ((H + 2 * PH) * stride_y)
    pixel = image + (top + position_y + PH) * stride_y + (left + position_x + PW) * (groups * CG) + group * CG
    steps = KH * KW * CG
    if constant_ptr is not None:
        steps = tl.where(tl.min((covered | (row >= P * (OH * OW))).to(tl.int32)) == 1, 0, steps)
    total = tl.full((BLOCK_M, BLOCK_N), 0.0, tl.float32)
    for k in tl.range(0, steps, BLOCK_K, num_stages=STAGES):
        index = k + tl.arange(0, BLOCK_K)
        exists = index < KH * KW * CG
        channel = index % CG
        ky = index // (CG * KW) * DH
        kx = index // CG % KW * DW
        hidden = ((top[:, None] + ky[None, :]).to(tl.uint32) < height[:, None]) & (
            (left[:, None] + kx[None, :]).to(tl.uint32) < width[:, None]
        )
        offset = pixel[:, None] + (ky * stride_y + kx * (groups * CG) + channel)[None, :]
        mask = live[:, None] & exists[None, :]
        if constant_ptr is None:
            seen = tl.load(tl.where(hidden, fill_ptr + offset, images_ptr + offset), mask=mask, other=0.0)
        else:
            fill = tl.load(fill_ptr + group * CG + channel, mask=exists, other=0.0)
            seen = tl.load(images_ptr + offset, mask=mask, other=0.0)
            seen = tl.where(hidden, fill[None, :], seen)
        at = (index * (groups * OG) + group * OG)[:, None] + column[None, :]
        filters = tl.load(weight_ptr + at, mask=exists[:, None] & (column < OG)[None, :], other=0.0)
        total = tl.dot(seen, filters, total, input_precision=PRECISION)
    if constant_ptr is not None:
        constant = tl.load(constant_ptr + group * OG + column, mask=column < OG, other=0.0)
        total = tl.where(covered[:, None], constant[None, :], total)
    if bias_ptr is not None:
        total += tl.load(bias_ptr + group * OG + column, mask=column < OG, other=0.0).to(tl.float32)[None, :]
    if RELU:
        total = tl.where(total < 0, 0.0, total)  # a NaN stays, as in torch.relu
    out = (((window * OH + y) * OW + x) * (groups * OG) + group * OG)[:, None] + column[None, :]
    tl.store(out_ptr + out, total.to(out_ptr.dtype.element_ty), mask=live[:, None] & (column < OG)[None, :])


def occluded_conv2d(
    images: Tensor,  # [N, C, H, W]
    weight: Tensor,  # [C_out, C / groups, kh, kw]
    bias: Tensor | None,  # [C_out]
    positions: Tensor,  # int32 [P, 2]
    image: Tensor,  # int64 [P]
    fill: Tensor,  # [C] or [N, C, H, W]
    window: Pair,
    out_origins: Tensor,  # int32 [P, 2]
    out_size: Pair,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
    relu: bool,
) -> Tensor:  # [P, C_out, *out_size]
    layer = Sliding((weight.shape[2], weight.shape[3]), stride, padding, dilation)
    count, outputs = positions.shape[0], weight.shape[0] // groups
    out = empty_channels_last(images, (count, weight.shape[0], *out_size))
    padded, filters = padded_images(images, padding, groups), padded_filters(weight)
    inner, constant = (0, 0), None
    if fill.dim() == 1:
        inner = always_hidden(layer, window, out_size)
        shown = fill.float().view(groups, 1, -1, 1, 1)
        constant = (weight.float().unflatten(0, (groups, outputs)) * shown).sum((2, 3, 4)).flatten()
        fill = padded_images(fill[None, :, None, None], (0, 0), groups)
    else:
        fill = padded_images(fill, padding, groups)
    rows = count * out_size[0] * out_size[1]

    def convolution(tile: MatrixTile) -> None:
        launch(
            occluded_conv_kernel, (triton.cdiv(rows, tile.rows), triton.cdiv(outputs, tile.columns), groups), images,
            padded, fill, filters, dense(bias), constant, positions.contiguous(), image.contiguous(),
            out_origins.contiguous(), out,
            count, outputs, images.shape[2], images.shape[3], *window, *out_size, *inner,
            filters.shape[2], *layer.kernel, *stride, *padding, *dilation, RELU=relu, PRECISION=dot_precision(),
            INDEX=index_type(padded, out), BLOCK_M=tile.rows, BLOCK_N=tile.columns, BLOCK_K=tile.block_k,
            STAGES=tile.stages, num_warps=tile.warps,
        )  # fmt: skip

    key = shape_class("occluded_conv2d", images.dtype, rows, outputs, weight.shape[1], *layer.kernel)
    most = ROWS if warpgroup_products(images.device) and images.element_size() < 4 else ROWS // 2
    tiles = matrix_tiles(most, outputs, 32, 2, products=tensor_products(images))
    convolution(choose(key, tiles, convolution, gpu_name(images.device)))
    return out


def always_hidden(layer: Sliding, window: Pair, out_size: Pair) -> Pair:
    """Rows and columns of outputs that see nothing but the square, wherever it lies between two strides."""
    box = []
    for axis in (0, 1):
        room = window[axis] - layer.extent[axis] - (layer.stride[axis] - 1)
        box.append(min(max(room // layer.stride[axis] + 1, 0), out_size[axis] - 1))
    return (box[0], box[1]) if min(box) > 0 else (0, 0)


def padded_images(images: Tensor, padding: Pair, groups: int) -> Tensor:
    """[N, H + 2 ph, W + 2 pw, groups, C']: C' the channels of a group up to a multiple of 4."""
    count, channels, height, width = images.shape
    in_group = channels // groups
    padded = images.new_zeros(
        (count, height + 2 * padding[0], width + 2 * padding[1], groups, -(-in_group // 4) * 4)
    )  # fmt: skip
    inside = padded[:, padding[0] : padding[0] + height, padding[1] : padding[1] + width, :, :in_group]
    inside.copy_(images.permute(0, 2, 3, 1).unflatten(3, (groups, in_group)))
    return padded


def padded_filters(weight: Tensor) -> Tensor:
    """[kh, kw, C', C_out], C' the channels of a group up to a multiple of 4."""
    outputs, channels, *kernel = weight.shape
    padded = weight.new_zeros((*kernel, -(-channels // 4) * 4, outputs))
    padded[:, :, :channels].copy_(weight.permute(2, 3, 1, 0))
    return padded

"""One DeconvNet stage in Triton: unpool with switches -> ReLU -> transposed convolution.

    u[c, i, j]   = sum (or the last) of the values of the pooling windows whose switch points at (i, j)
    out[d, Y, X] = sum over c, ky, kx of w[c, d, ky, kx] max(u[c, (Y + p - ky d) / s, (X + p - kx d) / s], 0)

Output stationary, the unpooled map never in memory. With Y = s q + e d - p, tap ky = e + j step reads pixel
q - j move, whatever the phase e is: all phases of a place q share their pixels. So a program owns a tile of places and
all their phases, builds the tile of unpooled pixels once for each tap j and block of channels, and multiplies it with
the filters of every phase that has this tap. Nothing is multiplied that is zero by construction. The places of a tile
are PS apart, PS the pooling's stride, which makes the switch that a pixel needs a scalar (see ``triton_unpool``).

From 16 output channels the products are ``tl.dot`` (float32 sums); below, as in the stage of the pixels with its three,
multiply-adds of a few sums in registers.

Designs compared by `zfkernels inspect`, ZFNet's stage 2 (16 images, float16) on sm_90: the estimate over the data-sheet
bound of 13.4 us; instructions of the loop for 32 channels, shares of tensor and integer ones. No times.

- all phases of 64 places, filters in three blocks of 32 columns: 5.6x; 534, 4 %, 48 %.
- all phases of 64 places, one block of 128 columns, a quarter of it empty: 4.6x; 428, 2 %, 48 %. Chosen.
- the same, colliding values summed in float16: 4.8x; 407, 2 %, 75 %, and one more rounding.

What is left is unpooling itself: of the loop, four windows of a pixel are loaded, compared and summed although 2.25
cover it on average, and a tile is built again for each tap.
"""

from __future__ import annotations

from dataclasses import dataclass

import triton
from torch import Tensor

from zfkernels.ops._checks import empty_channels_last, empty_like_format
from zfkernels.ops._triton_launch import (
    INTERPRETED,
    ROWS,
    channels_last,
    dense,
    dot_precision,
    index_type,
    launch,
    power_of_two,
)
from zfkernels.ops.unpool_relu_conv_transpose2d.triton_stages import convolution_axis, parts, places, stage_kernel
from zfkernels.ops.unpool_relu_conv_transpose2d.triton_unpool import pooling_axis
from zfkernels.windows import Pair, Sliding

FEWEST_FOR_DOT = 16  # output channels


@dataclass(frozen=True)
class Tile:
    """What one program computes: places x columns of each phase, ``block_k`` channels at a time."""

    block_m: int
    block_n: int
    blocks_n: int
    block_k: int
    warps: int
    stages: int


def tile_for(columns: int, phases: int, channels: int, element: int) -> Tile:
    """The tile for so many output channels in a group, phases and channels in a group of so many bytes each."""
    if columns < FEWEST_FOR_DOT:
        block_k = power_of_two(channels, 16 // element, 64) if INTERPRETED else 16 // element
        return Tile(2 * ROWS, 1, columns, block_k, 4, 1)
    most = max(16, power_of_two(384 // phases, 16, 128))
    block_n = min(most, power_of_two(columns, 16, 128))
    blocks_n = max(1, min(384 // (phases * block_n), -(-columns // block_n)))
    return Tile(ROWS // 2, block_n, blocks_n, power_of_two(channels, 16, 32), 8, 2)


def refuses(values: Tensor, switches: object, weight: Tensor, *args: object) -> str | None:
    """Why the kernel cannot take these arguments of the op, or None."""
    stride: Pair = args[8]  # type: ignore[assignment]
    return "it takes strides whose product is at most 64" if stride[0] * stride[1] > 64 else None


def unpool_relu_conv_transpose2d(
    values: Tensor,  # [N, C, Hp, Wp], or windows [P, C, h, w]
    switches: Tensor | None,  # uint8 [N, C, Hp, Wp]
    weight: Tensor,  # [C, C_in / groups, kh, kw]
    origins: Tensor | None,  # int32 [P, 2]
    image: Tensor | None,  # int64 [P]
    out_origins: Tensor | None,  # int32 [P, 2]
    pool_kernel_size: Pair,
    pool_stride: Pair,
    pool_padding: Pair,
    pool_dilation: Pair,
    unpooled_size: Pair,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
    output_size: Pair,
    overlap: str,
    rectify: bool,
) -> Tensor:  # [N or P, C_in, *output_size]
    pool = Sliding(pool_kernel_size, pool_stride, pool_padding, pool_dilation)
    conv = Sliding((weight.shape[2], weight.shape[3]), stride, padding, dilation)
    conv_axes = [convolution_axis(conv, axis) for axis in (0, 1)]
    pool_axes = [pooling_axis(pool, axis) for axis in (0, 1)]
    count, channels, columns = values.shape[0], values.shape[1], weight.shape[1]
    phases, lattices = conv_axes[0][5] * conv_axes[1][5], pool.stride[0] * pool.stride[1]
    tile = tile_for(columns, phases, channels // groups, values.element_size())
    dot = tile.block_n > 1

    shape = (count, columns * groups, *output_size)
    out = empty_like_format(values, shape) if origins is None else empty_channels_last(values, shape)
    pooled = unpooled_size if switches is None else (switches.shape[2], switches.shape[3])
    wide = index_type(values, switches, out)
    values = channels_last(values)
    switches = values if switches is None else channels_last(switches)  # without switches it is not read
    filters = (weight.permute(2, 3, 0, 1) if dot else weight.permute(2, 3, 1, 0).float()).contiguous()
    if phases < stride[0] * stride[1]:  # some outputs have no tap
        out.zero_()
    size = [places(axis, n, step) for axis, n, step in zip(conv_axes, output_size, pool.stride, strict=True)]
    rows = count * size[0] * size[1]
    windows = [dense(t) for t in (origins, image, out_origins)]
    splits = triton.cdiv(columns, tile.block_n * tile.blocks_n)
    launch(
        stage_kernel, (triton.cdiv(rows, tile.block_m), lattices * splits, groups), values,
        values, switches, filters, *windows, out, rows, channels, channels // groups, columns,
        *pooled, values.shape[2], values.shape[3], *unpooled_size, *output_size, *size, *out.stride(),
        *conv_axes, *pool_axes, parts(conv_axes), SWITCHED=switches is not values, WINDOWED=origins is not None,
        LAST=overlap == "last", RECTIFY=rectify, DOT=dot, PRECISION=dot_precision(), INDEX=wide,
        BLOCK_M=tile.block_m, BLOCK_N=tile.block_n, BLOCKS_N=tile.blocks_n, BLOCK_K=tile.block_k, STAGES=tile.stages,
        num_warps=tile.warps,
    )  # fmt: skip
    return out

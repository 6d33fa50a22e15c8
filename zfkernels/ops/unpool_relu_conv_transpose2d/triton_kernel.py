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

import math
from dataclasses import dataclass

import triton
from torch import Tensor

from zfkernels.ops._checks import empty_channels_last, empty_like_format
from zfkernels.ops._triton_launch import (
    INTERPRETED,
    channels_last,
    dense,
    dot_precision,
    index_type,
    launch,
    power_of_two,
    shape_class,
)
from zfkernels.ops.unpool_relu_conv_transpose2d.triton_plan import (
    bands,
    blocks,
    convolution_axis,
    packed_filters,
    places,
    used,
)
from zfkernels.ops.unpool_relu_conv_transpose2d.triton_stages import stage_kernel
from zfkernels.tuning import choose, gpu_name
from zfkernels.windows import Pair, Sliding


@dataclass(frozen=True)
class Tile:
    """What one program computes: rows x ``columns`` output channels of each phase, ``block_k`` channels at a time.

    ``taps`` are those of a band: they share their unpooled pixels.
    """

    rows: int
    columns: int
    block_k: int
    taps: Pair
    warps: int
    stages: int


def tiles(places: int, lattices: int, columns: int, phases: int, taps: Pair, channels: int, element: int) -> list[Tile]:
    """The tiles worth measuring, the default first.

    Args:
        places: of all maps or windows.
        lattices: of a place.
        columns: output channels of a group.
        phases: of the stride.
        taps: of a phase, rows and columns.
        channels: of a group.
        element: bytes of a number.
    """
    multiple = 16 // math.gcd(phases, 16)
    whole = -(-columns // multiple) * multiple
    widest = max(384 // phases // multiple, 1) * multiple
    if INTERPRETED:
        return [Tile(512, min(whole, widest), power_of_two(channels, 16, 128 // element), taps, 8, 1)]
    if element == 4 and dot_precision() == "ieee":  # no tensor cores: what is unrolled has to stay small
        return [Tile(64, min(whole, max(64 // phases // multiple, 1) * multiple), 16, (1, 1), 8, 2)]
    if phases * whole <= 64 and taps[0] * taps[1] <= 16:  # such as the stage of the pixels
        block_k = power_of_two(channels, 16, 64 // element)
        across = max(min(taps[1], 8 // taps[0]), 1)  # more taps at once share more pixels, but need more registers
        return [Tile(64, whole, block_k, shared, 4, 2) for shared in dict.fromkeys(((taps[0], across), (1, across)))]
    block_k = power_of_two(channels, 16, 128 // element)
    fewer = min(whole, max(192 // phases // multiple, 1) * multiple)
    wide = min(whole, widest)
    found = [Tile(64 if phases * wide > 256 else 128, wide, block_k, (1, 1), 8, 2)]
    if fewer < wide:
        found.append(Tile(64, fewer, block_k, (1, 1), 8, 2))
    programs = -(-places * lattices // found[0].rows)
    return found if programs >= 64 else found[::-1]  # a GPU has more than a hundred multiprocessors to fill


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
    if switches is None:
        pool = Sliding((1, 1))
    axes = [convolution_axis(conv, axis) for axis in (0, 1)]
    count, channels, columns = values.shape[0], values.shape[1], weight.shape[1]
    phases, lattices = axes[0][5] * axes[1][5], triton.next_power_of_2(pool.stride[0] * pool.stride[1])
    in_group = channels // groups
    size = [places(axes[i], output_size[i], pool.stride[i], anywhere=origins is not None) for i in (0, 1)]
    rows = count * size[0] * size[1]

    shape = (count, columns * groups, *output_size)
    out = empty_like_format(values, shape) if origins is None else empty_channels_last(values, shape)
    if phases < stride[0] * stride[1]:  # some outputs have no tap
        out.zero_()
    pooled = unpooled_size if switches is None else (switches.shape[2], switches.shape[3])
    values = channels_last(values)
    codes = values if switches is None else channels_last(switches)  # without switches they are not read
    windows = [dense(t) for t in (origins, image, out_origins)]

    def stage(tile: Tile) -> None:
        filters = packed_filters(weight, axes, groups, tile.columns, tile.block_k)
        block_t = max(tile.rows // lattices, 1)
        cut = blocks(phases * tile.columns)
        launch(
            stage_kernel, (triton.cdiv(rows, block_t), filters.shape[1], groups), values,
            values, codes, filters, *windows, out, rows, channels, in_group, filters.shape[4], columns,
            *pooled, values.shape[2], values.shape[3], *unpooled_size, *output_size, *size, *out.stride(), tile.columns,
            *axes, *((pool.kernel[i], pool.stride[i]) for i in (0, 1)),
            *(bands(axes[i], pool, i, tile.taps[i]) for i in (0, 1)), cut, used(cut, tile.columns, axes),
            SWITCHED=switches is not None, WINDOWED=origins is not None, LAST=overlap == "last", RECTIFY=rectify,
            EVEN=in_group % tile.block_k == 0, PRECISION=dot_precision(), INDEX=index_type(values, codes, filters, out),
            LATTICES=lattices, BLOCK_T=block_t, BLOCK_K=tile.block_k, STAGES=tile.stages, num_warps=tile.warps,
        )  # fmt: skip

    taps = (axes[0][6], axes[1][6])
    found = tiles(rows, lattices, columns, phases, taps, in_group, values.element_size())
    key = shape_class("unpool_relu_conv_transpose2d", values.dtype, rows, columns, in_group, phases, *taps, lattices)
    stage(choose(key, found, stage, gpu_name(values.device)))
    return out

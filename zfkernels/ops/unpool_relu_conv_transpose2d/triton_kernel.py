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

import torch.nn.functional as F
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
)
from zfkernels.ops.unpool_relu_conv_transpose2d.triton_stages import convolution_axis, places, stage_kernel
from zfkernels.ops.unpool_relu_conv_transpose2d.triton_unpool import band
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


def tile_for(columns: int, phases: int, taps: Pair, channels: int, element: int) -> Tile:
    """The tile for so many output channels in a group, phases, taps, and channels in a group of so many bytes each."""
    import os
    e = os.environ.get("TILE")
    if e:
        r, c, k, ty, tx, w, st = map(int, e.split(","))
        return Tile(r, c, k, (ty, tx), w, st)
    multiple = 16 // math.gcd(phases, 16)
    whole = -(-columns // multiple) * multiple
    most = max(384 // phases // multiple, 1) * multiple
    block_k = power_of_two(channels, 16, 128 // element)
    if INTERPRETED:
        return Tile(512, min(whole, most), block_k, taps, 8, 1)
    return Tile(64, min(whole, most), block_k, (1, 1), 8, 2)


def blocks(columns: int) -> tuple[Pair, ...]:
    """Columns, a multiple of 16, cut into powers of two, at most 128, as (first, columns)."""
    cut: list[Pair] = []
    first = 0
    while first < columns:
        width = min(128, 1 << ((columns - first).bit_length() - 1))
        cut.append((first, width))
        first += width
    return tuple(cut)


def used(cut: tuple[Pair, ...], columns: int, axes: list[tuple[int, ...]]) -> tuple[tuple[bool, ...], ...]:
    """By tap and block of columns: does a phase have it. Nothing is multiplied with a block of nothing but zeros."""

    def has(axis: tuple[int, ...], tap: int, phase: int) -> bool:
        return tap * axis[4] + phase < axis[0]

    (down, right) = axes
    return tuple(
        tuple(
            any(
                has(down, tap_y, phase // right[5]) and has(right, tap_x, phase % right[5])
                for phase in range(first // columns, (first + width - 1) // columns + 1)
            )
            for first, width in cut
        )
        for tap_y in range(down[6])
        for tap_x in range(right[6])
    )


def bands(axis: tuple[int, ...], pool: Sliding, at: int, together: int) -> tuple[tuple, ...]:
    """The bands of an axis, so many taps in each."""
    taps, move = axis[6], axis[7]
    pooling = (pool.kernel[at], pool.stride[at], pool.padding[at], pool.dilation[at])
    chunks = [range(tap, min(tap + together, taps)) for tap in range(0, taps, together)]
    return tuple(band(chunk, pooling[1], move, pooling) for chunk in chunks)


def packed_filters(weight: Tensor, axes: list[tuple[int, ...]], groups: int, columns: int, block_k: int) -> Tensor:
    """[groups, splits, taps_y, taps_x, C', phases D]: zeros where a phase has no tap, C' a multiple of ``block_k``."""
    channels, outputs, *kernel = weight.shape
    in_group = channels // groups
    whole = -(-in_group // block_k) * block_k
    splits = -(-outputs // columns)
    rest = [axis[6] * axis[4] - size for axis, size in zip(axes, kernel, strict=True)]
    by_group = weight.unflatten(0, (groups, in_group))
    padded = F.pad(by_group, (0, rest[1], 0, rest[0], 0, splits * columns - outputs, 0, whole - in_group))
    cut = padded.view(groups, whole, splits, columns, axes[0][6], axes[0][4], axes[1][6], axes[1][4])
    cut = cut[:, :, :, :, :, : axes[0][5], :, : axes[1][5]]
    return cut.permute(0, 2, 4, 6, 1, 5, 7, 3).contiguous()


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
    if switches is None:
        pool = Sliding((1, 1))
    axes = [convolution_axis(conv, axis) for axis in (0, 1)]
    count, channels, columns = values.shape[0], values.shape[1], weight.shape[1]
    phases, lattices = axes[0][5] * axes[1][5], triton.next_power_of_2(pool.stride[0] * pool.stride[1])
    in_group = channels // groups
    tile = tile_for(columns, phases, (axes[0][6], axes[1][6]), in_group, values.element_size())

    shape = (count, columns * groups, *output_size)
    out = empty_like_format(values, shape) if origins is None else empty_channels_last(values, shape)
    pooled = unpooled_size if switches is None else (switches.shape[2], switches.shape[3])
    values = channels_last(values)
    switches = values if switches is None else channels_last(switches)  # without switches it is not read
    filters = packed_filters(weight, axes, groups, tile.columns, tile.block_k)
    if phases < stride[0] * stride[1]:  # some outputs have no tap
        out.zero_()
    size = [
        places(axes[i], output_size[i], pool.stride[i], anywhere=origins is not None) for i in (0, 1)
    ]
    rows = count * size[0] * size[1]
    block_t = max(tile.rows // lattices, 1)
    windows = [dense(t) for t in (origins, image, out_origins)]
    cut = blocks(phases * tile.columns)
    launch(
        stage_kernel, (triton.cdiv(rows, block_t), filters.shape[1], groups), values,
        values, switches, filters, *windows, out, rows, channels, in_group, filters.shape[4], columns,
        *pooled, values.shape[2], values.shape[3], *unpooled_size, *output_size, *size, *out.stride(), tile.columns,
        *axes, *((pool.kernel[i], pool.stride[i]) for i in (0, 1)), *(bands(axes[i], pool, i, tile.taps[i]) for i in (0, 1)),
        cut, used(cut, tile.columns, axes), SWITCHED=switches is not values, WINDOWED=origins is not None,
        LAST=overlap == "last", RECTIFY=rectify, EVEN=in_group % tile.block_k == 0, PRECISION=dot_precision(),
        INDEX=index_type(values, switches, filters, out), LATTICES=lattices, BLOCK_T=block_t, BLOCK_K=tile.block_k,
        STAGES=tile.stages, num_warps=tile.warps,
    )  # fmt: skip
    return out

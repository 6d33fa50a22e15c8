"""One DeconvNet stage in Triton: unpool with switches -> ReLU -> transposed convolution.

    u[c, i, j]   = sum (or the last) of the values of the pooling windows whose switch points at (i, j)
    out[d, Y, X] = sum over c, ky, kx of w[c, d, ky, kx] max(u[c, (Y + p - ky d) / s, (X + p - kx d) / s], 0)

Output stationary, the unpooled map never in memory. With Y = s q + e d - p, tap ky = e + j step reads pixel
q - j move, whatever the phase e is: all phases of a place share their pixels. A program owns a tile of places with all
lattices of the pooling's stride and all phases. For a band of taps and a block of channels it loads each pooled value
and switch once, builds each unpooled pixel once, and joins the pixels of the lattices to the left operand of each tap;
the right one is a block of filters packed as [tap][C][phase][D]. Which window covers which pixel is known when the
kernel is compiled (``triton_plan.py``). No block is multiplied whose columns are all zero by construction.

Products are ``tl.dot`` (float32 sums) for any number of output channels. For the pixels, three of them, four phases
make 12 of 16 columns: multiply-adds outside the tensor cores were 118x the bound, 16x if nothing else took time.

Designs compared by `tools/gpu_code`, sm_90, float16, 16 images: the estimate over the data-sheet bound; instructions
of the loop, shares of tensor and integer ones. No times. ZFNet's stage 2 (96 columns, 4 phases, 9 taps):

- one lattice per program, 64 places, 3 blocks of 32 columns: 5.6x; 534, 4 %, 48 %.
- the same, one block of 128 columns, a quarter of it empty: 4.6x; 428, 2 %, 48 %.
- all lattices, 64 rows, 3 blocks of 128 columns, 64 channels, a loop for each tap: 2.0x; 336, 4 %, 48 %. Chosen.
- the same with 32 channels, 3 stages: 2.6x; 210, 3 %, 51 %.
- the same with blocks of 256 and 128 columns: 2.0x; 360, 2 %, 53 %. With six of 64 columns: 2.4x; 391, 6 %, 48 %.
- the same, pooled values fetched one block ahead into registers: 2.2x; 369, 3 %, 54 %.
- the same, half the columns, 4 warps: 2.2x; 517, 2 %, 53 %.
- two or three taps in a loop, which share their pixels: 3.1x to 4.7x, spills.
- 32 rows, 4 warps, ``mma`` in place of ``wgmma``: 3.5x, spills; 812, 12 %, 66 %.

With a ``wgmma`` of 64 x 64 x 16 each of its four warps multiplies as much as with eight of the ``mma`` that other GPUs
have (16 x 8 x 16): counted in those the share of tensor instructions is 23 %. Of the chosen kernel's 48 % of integer
instructions 22 % are not addresses: 36 switches compared and 32 taken out of their words in a loop of 336; 26 % are
addresses, descriptors of the filters' blocks and counters.

On GPUs whose products take both operands from registers (sm_80, sm_120, AMD) a program owns 128 columns: on sm_80 4.1x,
215, 7 %, 56 %; 256 columns 3.6x, 281, 17 %, 48 %, but spills.

The stage of the pixels (7x7, stride 2, 16 taps), 64 rows, 32 channels, 4 warps: all 16 taps at once 11.5x to 12x, with
spills in some versions of the loop; 8 taps 13.7x, chosen; 4 taps 15x.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import triton
from torch import Tensor

from zfkernels.geometry import Pair, Sliding
from zfkernels.ops._allocation import empty_like_format
from zfkernels.ops._triton_launch import (
    INTERPRETED,
    channels_last,
    dot_precision,
    index_type,
    launch,
    power_of_two,
    shape_class,
    tensor_products,
    warpgroup_products,
)
from zfkernels.ops.unpool_relu_conv_transpose2d.triton_plan import (
    bands,
    blocks,
    constant,
    convolution_axis,
    packed_filters,
    places,
    used,
)
from zfkernels.ops.unpool_relu_conv_transpose2d.triton_stages import stage_kernel
from zfkernels.tuning import choose, gpu_name


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


def tiles(
    places: int, lattices: int, columns: int, phases: int, taps: Pair, channels: int, element: int, *,
    products: bool, warpgroups: bool,
) -> list[Tile]:  # fmt: skip
    """The tiles worth measuring, the default first.

    Args:
        places: of all maps or windows.
        lattices: of a place.
        columns: output channels of a group.
        phases: of the stride.
        taps: of a phase, rows and columns.
        channels: of a group.
        element: bytes of a number.
        products: there are matrix instructions for the dtype.
        warpgroups: the GPU multiplies from shared memory; else operands take registers, and tiles are smaller.
    """
    multiple = 16 // math.gcd(phases, 16)
    whole = -(-columns // multiple) * multiple
    widest = max(384 // phases // multiple, 1) * multiple
    if INTERPRETED:
        return [Tile(512, min(whole, widest), power_of_two(channels, 16, 128 // element), taps, 8, 1)]
    if not products:  # what is unrolled has to stay small
        return [Tile(64, min(whole, max(64 // phases // multiple, 1) * multiple), 16, (1, 1), 8, 2)]
    if phases * whole <= 64 and taps[0] * taps[1] <= 16:  # such as the stage of the pixels
        block_k = power_of_two(channels, 16, 64 // element)
        # More taps at once share more pixels, but need more registers.
        most = (taps[0], max(min(taps[1], 8 // taps[0]), 1)) if warpgroups else (min(taps[0], 2), min(taps[1], 2))
        warps = 4 if warpgroups else 8
        return [Tile(64, whole, block_k, shared, warps, 2) for shared in dict.fromkeys((most, (1, most[1])))]
    if not warpgroups:
        splits = -(-phases * whole // 128)
        width = -(-whole // (splits * multiple)) * multiple
        block_k = power_of_two(channels, 16, 64 // element)
        return [Tile(64, width, block_k, (1, 1), 8, stages) for stages in (2, 3)]
    block_k = power_of_two(channels, 16, 128 // element)
    fewer = min(whole, max(192 // phases // multiple, 1) * multiple)
    wide = min(whole, widest)
    found = [Tile(64 if phases * wide > 256 else 128, wide, block_k, (1, 1), 8, 2)]
    if fewer < wide:
        found.append(Tile(64, fewer, block_k, (1, 1), 8, 2))
    programs = -(-places * lattices // found[0].rows)
    return found if programs >= 64 else found[::-1]  # a GPU has more than a hundred multiprocessors to fill


def unpool_relu_conv_transpose2d(
    values: Tensor,  # [N, C, Hp, Wp]
    switches: Tensor | None,  # uint8 [N, C, Hp, Wp]
    weight: Tensor,  # [C, C_in / groups, kh, kw]
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
) -> Tensor:  # [N, C_in, *output_size]
    pool = Sliding(pool_kernel_size, pool_stride, pool_padding, pool_dilation)
    conv = Sliding((weight.shape[2], weight.shape[3]), stride, padding, dilation)
    if switches is None:
        pool = Sliding((1, 1))
    axes = [convolution_axis(conv, axis) for axis in (0, 1)]
    count, channels, columns = values.shape[0], values.shape[1], weight.shape[1]
    phases, lattices = axes[0].phases * axes[1].phases, triton.next_power_of_2(pool.stride[0] * pool.stride[1])
    in_group = channels // groups
    size = [places(axes[i], output_size[i], pool.stride[i]) for i in (0, 1)]
    rows = count * size[0] * size[1]

    out = empty_like_format(values, (count, columns * groups, *output_size))
    if phases < stride[0] * stride[1]:  # some outputs have no tap
        out.zero_()
    pooled = unpooled_size if switches is None else (switches.shape[2], switches.shape[3])
    values = channels_last(values)
    codes = values if switches is None else channels_last(switches)  # without switches they are not read

    def stage(tile: Tile) -> None:
        filters = packed_filters(weight, axes, groups, tile.columns, tile.block_k)
        block_t = max(tile.rows // lattices, 1)
        cut = blocks(phases * tile.columns)
        launch(
            stage_kernel, (triton.cdiv(rows, block_t), filters.shape[1], groups), values,
            values, codes, filters, out, rows, channels, in_group, filters.shape[4], columns,
            *pooled, *unpooled_size, *output_size, *size, *out.stride(), tile.columns,
            *map(constant, axes), *((pool.kernel[i], pool.stride[i]) for i in (0, 1)),
            *(constant(bands(axes[i], pool, i, tile.taps[i])) for i in (0, 1)), cut, used(cut, tile.columns, axes),
            SWITCHED=switches is not None, LAST=overlap == "last", RECTIFY=rectify,
            EVEN=in_group % tile.block_k == 0, PRECISION=dot_precision(), INDEX=index_type(values, codes, filters, out),
            LATTICES=lattices, BLOCK_T=block_t, BLOCK_K=tile.block_k, STAGES=tile.stages, num_warps=tile.warps,
        )  # fmt: skip

    taps = (axes[0].taps, axes[1].taps)
    found = tiles(
        rows, lattices, columns, phases, taps, in_group, values.element_size(),
        products=tensor_products(values), warpgroups=warpgroup_products(values.device),
    )  # fmt: skip
    key = shape_class("unpool_relu_conv_transpose2d", values.dtype, rows, columns, in_group, phases, *taps, lattices)
    stage(choose(key, found, stage, gpu_name(values.device)))
    return out

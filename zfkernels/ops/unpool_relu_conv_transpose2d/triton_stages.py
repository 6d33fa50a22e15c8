"""The two Triton kernels of a DeconvNet stage; the host side and the words are in ``triton_kernel.py``.

An axis of the convolution is described by the tuple (kernel, stride, padding, dilation, step, phases, taps, move): taps
``step`` apart belong to the same phase of the stride, each ``move`` unpooled pixels further back; there are ``phases``
phases with a tap at all, and at most ``taps`` taps in a phase.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import triton
import triton.language as tl

from zfkernels.ops.unpool_relu_conv_transpose2d.triton_unpool import covering, unpooled
from zfkernels.windows import Sliding


def convolution_axis(conv: Sliding, axis: int) -> tuple[int, ...]:
    """The tuple that describes one axis of a convolution."""
    kernel, stride, padding, dilation = (pair[axis] for pair in (conv.kernel, conv.stride, conv.padding, conv.dilation))
    step = stride // math.gcd(stride, dilation)
    return (
        kernel, stride, padding, dilation,
        step, min(step, kernel), -(-kernel // step), dilation // math.gcd(stride, dilation),
    )  # fmt: skip


def parts(axes: Sequence[tuple[int, ...]]) -> tuple[tuple[int, ...], ...]:
    """Cuts the taps so that those of a part belong to the same phases: (first tap, taps, phases) of rows and columns.

    The last tap of an axis may belong to the first phases only: no product has a factor that is zero by construction.
    """
    cut = []
    for kernel, _, _, _, step, phases, taps, _ in axes:
        last = kernel - (taps - 1) * step
        cut.append([(0, taps, phases)] if last >= phases else [(0, taps - 1, phases), (taps - 1, 1, last)])
    return tuple(rows + columns for rows in cut[0] for columns in cut[1])


def places(axis: tuple[int, ...], outputs: int, lattice: int) -> int:
    """The most places t of one lattice that a window of ``outputs`` needs, wherever it lies."""
    _, stride, _, dilation, _, phases, *_ = axis
    cells = (outputs - 1 + (phases - 1) * dilation) // stride + 1
    return -(-cells // lattice)


@triton.jit
def first_place(origin, lattice, CONV: tl.constexpr, POOL: tl.constexpr):
    """The first t for which q = stride t + lattice has an output at or after ``origin``, in any phase."""
    BIAS: tl.constexpr = CONV[5] * CONV[3] + 1  # makes what is divided positive
    first = (origin + (CONV[2] - (CONV[5] - 1) * CONV[3] + (BIAS * POOL[1] + 1) * CONV[1] - 1)) // CONV[1]
    return (first - lattice + (POOL[1] - 1)) // POOL[1] - BIAS


@triton.jit
def stage_kernel(
    values_ptr,  # [P, CH, CW, C]
    switches_ptr,  # uint8 [N, HP, WP, C]
    weight_ptr,  # [KH, KW, C, D]; without DOT float32 [KH, KW, D, C]
    origins_ptr,  # int32 [P, 2]
    image_ptr,  # int64 [P]
    out_origins_ptr,  # int32 [P, 2]
    out_ptr,  # [P, groups D, OH, OW], any strides
    M,  # P TH TW rows
    C,
    CG,  # C / groups
    D,
    HP, WP, CH, CW, HU, WU, OH, OW, TH, TW, stride_n, stride_d, stride_h, stride_w,
    CONV_Y: tl.constexpr, CONV_X: tl.constexpr, POOL_Y: tl.constexpr, POOL_X: tl.constexpr, PARTS: tl.constexpr,
    SWITCHED: tl.constexpr, WINDOWED: tl.constexpr, LAST: tl.constexpr, RECTIFY: tl.constexpr,
    DOT: tl.constexpr, PRECISION: tl.constexpr, INDEX: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCKS_N: tl.constexpr, BLOCK_K: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    lattice = tl.program_id(1) % (POOL_Y[1] * POOL_X[1])
    first_column = tl.program_id(1) // (POOL_Y[1] * POOL_X[1]) * (BLOCK_N * BLOCKS_N)
    group = tl.program_id(2)
    lattice_y = lattice // POOL_X[1]
    lattice_x = lattice % POOL_X[1]
    row = tl.program_id(0).to(INDEX) * BLOCK_M + tl.arange(0, BLOCK_M)
    live = row < M
    crop = tl.where(live, row // (TH * TW), 0)
    out_top = 0
    out_left = 0
    top = 0
    left = 0
    image = crop
    if WINDOWED:
        out_top = tl.load(out_origins_ptr + 2 * crop)
        out_left = tl.load(out_origins_ptr + 2 * crop + 1)
        top = tl.load(origins_ptr + 2 * crop)
        left = tl.load(origins_ptr + 2 * crop + 1)
        image = tl.load(image_ptr + crop).to(INDEX)
    switch_base = image * (HP * WP) * C
    value_base = crop * (CH * CW) * C
    ty = row // TW % TH + first_place(out_top, lattice_y, CONV_Y, POOL_Y)
    tx = row % TW + first_place(out_left, lattice_x, CONV_X, POOL_X)
    qy = ty * POOL_Y[1] + lattice_y
    qx = tx * POOL_X[1] + lattice_x
    column = tl.arange(0, BLOCK_N)
    sums = ()
    for _ in tl.static_range(CONV_Y[5] * CONV_X[5] * BLOCKS_N):
        if DOT:
            sums = sums + (tl.full((BLOCK_M, BLOCK_N), 0.0, tl.float32),)
        else:
            sums = sums + (tl.full((BLOCK_M,), 0.0, tl.float32),)
    # All phases read the same pixels, and those of a part have the same taps.
    for part in tl.static_range(len(PARTS)):
        from_y, taps_y, phases_y, from_x, taps_x, phases_x = PARTS[part]
        for tap in tl.range(0, taps_y * taps_x):
            jy = from_y + tap // taps_x
            jx = from_x + tap % taps_x
            back_y = jy * CONV_Y[7]
            back_x = jx * CONV_X[7]
            pixel = live & ((qy - back_y).to(tl.uint32) < HU) & ((qx - back_x).to(tl.uint32) < WU)
            rows = covering(ty, lattice_y, back_y, top, HP, CH, CONV_Y[6] * CONV_Y[7], POOL_Y, WINDOWED)
            columns = covering(tx, lattice_x, back_x, left, WP, CW, CONV_X[6] * CONV_X[7], POOL_X, WINDOWED)
            filter_at = (jy * CONV_Y[4] * CONV_X[0] + jx * CONV_X[4]) * C * D
            for k in tl.range(0, CG, BLOCK_K, num_stages=STAGES):
                within = k + tl.arange(0, BLOCK_K)
                in_group = within < CG
                channel = group * CG + within
                tile = unpooled(
                    values_ptr, switches_ptr, rows, columns, pixel, switch_base, value_base, channel[None, :],
                    in_group[None, :], C, WP, CW, POOL_Y, POOL_X, WINDOWED, SWITCHED, LAST, RECTIFY,
                )  # fmt: skip
                filters_at = weight_ptr + filter_at + (channel * D + first_column if DOT else channel)
                new = ()
                for index in tl.static_range(CONV_Y[5] * CONV_X[5] * BLOCKS_N):
                    phase_y = index // BLOCKS_N // CONV_X[5]
                    phase_x = index // BLOCKS_N % CONV_X[5]
                    start = index % BLOCKS_N * BLOCK_N
                    total = sums[index]
                    if phase_y < phases_y and phase_x < phases_x:
                        taps = filters_at + (phase_y * CONV_X[0] + phase_x) * C * D
                        if DOT:
                            mask = in_group[:, None] & (first_column + start + column < D)[None, :]
                            filters = tl.load(taps[:, None] + (start + column)[None, :], mask=mask, other=0.0)
                            total = tl.dot(tile, filters, total, input_precision=PRECISION)
                        else:
                            filters = tl.load(taps + start * C, mask=in_group, other=0.0)
                            total += tl.sum(tile.to(tl.float32) * filters[None, :], axis=1)
                    new = new + (total,)
                sums = new
    for index in tl.static_range(CONV_Y[5] * CONV_X[5] * BLOCKS_N):
        phase_y = index // BLOCKS_N // CONV_X[5]
        phase_x = index // BLOCKS_N % CONV_X[5]
        start = index % BLOCKS_N * BLOCK_N
        y = qy * CONV_Y[1] + phase_y * CONV_Y[3] - CONV_Y[2] - out_top
        x = qx * CONV_X[1] + phase_x * CONV_X[3] - CONV_X[2] - out_left
        inside = live & (y >= 0) & (y < OH) & (x >= 0) & (x < OW)
        out = out_ptr + (crop * stride_n + y * stride_h + x * stride_w + (group * D + first_column + start) * stride_d)
        result = sums[index].to(out_ptr.dtype.element_ty)
        if DOT:
            mask = inside[:, None] & (first_column + start + column < D)[None, :]
            tl.store(out[:, None] + (column * stride_d)[None, :], result, mask=mask)
        else:
            tl.store(out, result, mask=inside)

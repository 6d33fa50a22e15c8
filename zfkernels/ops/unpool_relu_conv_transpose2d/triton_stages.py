"""The Triton kernel of a DeconvNet stage; the host side and the words are in ``triton_kernel.py``.

Its sums, :func:`added`, are those of the kernel on windows, too.
"""

from __future__ import annotations

import triton
import triton.language as tl

from zfkernels.ops.unpool_relu_conv_transpose2d.triton_unpool import (
    among_all,
    at,
    clamped,
    joined,
    pixel_of,
    pointing,
    unpooled,
)


@triton.jit
def first_place(origin, CONV: tl.constexpr, LATTICES: tl.constexpr):
    """The first t of which a row has an output at or after ``origin``, in any phase."""
    STRIDE: tl.constexpr = at(CONV, "stride")
    DILATION: tl.constexpr = at(CONV, "dilation")
    BIAS: tl.constexpr = at(CONV, "phases") * DILATION + 1  # makes what is divided positive
    BEFORE: tl.constexpr = at(CONV, "padding") - (at(CONV, "phases") - 1) * DILATION
    first = origin + (BEFORE + (BIAS * LATTICES + 1) * STRIDE - 1)
    return first // STRIDE // LATTICES - BIAS


@triton.jit
def located(place, M, TH, TW, CONV_Y: tl.constexpr, CONV_X: tl.constexpr, LATTICES_Y: tl.constexpr,
            LATTICES_X: tl.constexpr):  # fmt: skip
    """Of places: is there one, its image, ty and tx."""
    live = place < M
    image = tl.where(live, place // (TH * TW), 0)
    ty = (place // TW % TH).to(tl.int32) + first_place(0, CONV_Y, LATTICES_Y)
    tx = (place % TW).to(tl.int32) + first_place(0, CONV_X, LATTICES_X)
    return live, image, ty, tx


@triton.jit
def added(
    sums, values_ptr, switches_ptr, frames_ptr, filters_ptr, live, image, first, top, left, ty, tx, group,
    C, stride, CG, CP, HP, WP, CH, CW, HU, WU,
    CONV_X: tl.constexpr, POOL_Y: tl.constexpr, POOL_X: tl.constexpr, BAND_Y: tl.constexpr, BAND_X: tl.constexpr,
    COLUMNS: tl.constexpr, BLOCKS: tl.constexpr, USED: tl.constexpr,
    SWITCHED: tl.constexpr, WINDOWED: tl.constexpr, LAST: tl.constexpr, RECTIFY: tl.constexpr, EVEN: tl.constexpr,
    ALIGNED: tl.constexpr, PRECISION: tl.constexpr, LATTICES: tl.constexpr, BLOCK_K: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """The sums with the products of two bands of taps added.

    The values are crops (or whole maps) of CH x CW cells at (top, left), from cell ``first`` on, ``stride`` apart;
    around them lie the frames, or zeros (None). ALIGNED: the rows of both begin at multiples of 16 bytes.
    """
    CROPPED: tl.constexpr = WINDOWED and frames_ptr is None
    points_y = pointing(ty, live, top, HP, CH, HU, BAND_Y, at(POOL_Y, "stride"), at(POOL_X, "kernel"), CROPPED, LAST)
    points_x = pointing(tx, live, left, WP, CW, WU, BAND_X, at(POOL_X, "stride"), 1, CROPPED, LAST)
    values_at = ()
    switches_at = ()
    inside = ()
    for window in tl.static_range(len(at(BAND_Y, "distances")) * len(at(BAND_X, "distances"))):
        y = ty + at(BAND_Y, "distances", window // len(at(BAND_X, "distances")))
        x = tx + at(BAND_X, "distances", window % len(at(BAND_X, "distances")))
        switches_at = switches_at + (((image * HP + clamped(y, HP)) * WP + clamped(x, WP)) * C,)
        cell = first + clamped(y - top, CH).to(first.dtype) * CW + clamped(x - left, CW)
        values_at = values_at + (tl.maximum(cell, 0) * stride,)  # an empty crop has no cell to clamp to
        inside = inside + (((y - top).to(tl.uint32) < CH) & ((x - left).to(tl.uint32) < CW),)
    for k in tl.range(0, CG, BLOCK_K, num_stages=STAGES):
        within = k + tl.arange(0, BLOCK_K)
        channel = group * CG + within
        values = ()
        switches = ()
        for window in tl.static_range(len(at(BAND_Y, "distances")) * len(at(BAND_X, "distances"))):
            source_ptr = values_ptr + values_at[window]
            if frames_ptr is not None:
                source_ptr = tl.where(inside[window], source_ptr, frames_ptr + switches_at[window])
                if ALIGNED:
                    source_ptr = tl.multiple_of(source_ptr, 16)
            value_ptr = source_ptr[:, None] + channel[None, :]
            if CROPPED and LAST:  # windows outside of their crop hold zeros, which win too
                mask = inside[window][:, None] & (within < CG)[None, :]
                value = tl.load(value_ptr, mask=mask, other=0.0)
            elif EVEN:
                value = tl.load(value_ptr)
            else:
                value = tl.load(value_ptr, mask=(within < CG)[None, :], other=0.0)
            values = values + (value.to(tl.float32),)
            if SWITCHED:
                source = switches_at[window] if WINDOWED else values_at[window]
                switch_ptr = switches_ptr + source[:, None] + channel[None, :]
                switch = tl.load(switch_ptr) if EVEN else tl.load(switch_ptr, mask=(within < CG)[None, :], other=0)
                switches = switches + (switch.to(tl.int32),)
        pixels = ()
        for pixel in tl.static_range(len(at(BAND_Y, "pixels")) * len(at(BAND_X, "pixels"))):
            pixels = pixels + (unpooled(
                values, switches, points_y, points_x, at(BAND_Y, "pixels", pixel // len(at(BAND_X, "pixels"))),
                at(BAND_X, "pixels", pixel % len(at(BAND_X, "pixels"))),
                len(at(BAND_X, "distances")), values_ptr.dtype.element_ty, SWITCHED, LAST, RECTIFY,
            ),)  # fmt: skip
        for tap in tl.static_range(at(BAND_Y, "tap_count") * at(BAND_X, "tap_count")):
            of_lattices = ()
            for lattice in tl.static_range(LATTICES):
                of_lattices = of_lattices + (
                    pixels[pixel_of(BAND_Y, BAND_X, tap, lattice, at(POOL_Y, "stride"), at(POOL_X, "stride"))],
                )
            tile = joined(of_lattices)
            filters_at = filters_ptr + (among_all(BAND_Y, BAND_X, tap, at(CONV_X, "taps")) * CP + k) * COLUMNS
            new = ()
            for block in tl.static_range(len(BLOCKS)):
                total = sums[block]
                if at(USED, among_all(BAND_Y, BAND_X, tap, at(CONV_X, "taps")), block):
                    column = at(BLOCKS, block, 0) + tl.arange(0, at(BLOCKS, block, 1))
                    filters = tl.load(filters_at + ((tl.arange(0, BLOCK_K) * COLUMNS)[:, None] + column[None, :]))
                    total = tl.dot(tile, filters, total, input_precision=PRECISION)
                new = new + (total,)
            sums = new
    return sums


@triton.jit
def stage_kernel(
    values_ptr,  # [N, HP, WP, C]
    switches_ptr,  # uint8 [N, HP, WP, C]
    filters_ptr,  # [groups, splits, taps_y, taps_x, CP, phases D]
    out_ptr,  # [N, groups DG, OH, OW], any strides
    M,  # N TH TW places
    C,
    CG,  # C / groups
    CP,  # CG up to a multiple of BLOCK_K
    DG,  # output channels of a group
    HP, WP, HU, WU, OH, OW, TH, TW, stride_n, stride_d, stride_h, stride_w,
    D: tl.constexpr,  # output channels of a program
    CONV_Y: tl.constexpr, CONV_X: tl.constexpr, POOL_Y: tl.constexpr, POOL_X: tl.constexpr,
    BANDS_Y: tl.constexpr, BANDS_X: tl.constexpr,
    BLOCKS: tl.constexpr,  # of the phases D columns: (first, columns), a power of two each
    USED: tl.constexpr,  # by tap and block: does a phase have it
    SWITCHED: tl.constexpr, LAST: tl.constexpr, RECTIFY: tl.constexpr,
    EVEN: tl.constexpr,  # CG is a multiple of BLOCK_K
    PRECISION: tl.constexpr, INDEX: tl.constexpr, LATTICES: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_K: tl.constexpr,
    STAGES: tl.constexpr,
):  # fmt: skip
    start = tl.program_id(0).to(INDEX) * BLOCK_T
    split = tl.program_id(1)
    group = tl.program_id(2)
    live, image, ty, tx = located(
        start + tl.arange(0, BLOCK_T), M, TH, TW, CONV_Y, CONV_X, at(POOL_Y, "stride"), at(POOL_X, "stride")
    )  # fmt: skip
    PHASES: tl.constexpr = at(CONV_Y, "phases") * at(CONV_X, "phases")
    TAPS: tl.constexpr = at(CONV_Y, "taps") * at(CONV_X, "taps")
    filters_base = filters_ptr + ((group * tl.num_programs(1) + split) * TAPS).to(INDEX) * CP * (PHASES * D)
    sums = ()
    for block in tl.static_range(len(BLOCKS)):
        sums = sums + (tl.full((BLOCK_T * LATTICES, at(BLOCKS, block, 1)), 0.0, tl.float32),)
    for band in tl.static_range(len(BANDS_Y) * len(BANDS_X)):
        sums = added(
            sums, values_ptr, switches_ptr, None, filters_base, live, image, image * HP * WP, 0, 0, ty, tx, group,
            C, C, CG, CP, HP, WP, HP, WP, HU, WU, CONV_X, POOL_Y, POOL_X,
            at(BANDS_Y, band // len(BANDS_X)), at(BANDS_X, band % len(BANDS_X)), PHASES * D, BLOCKS, USED,
            SWITCHED, False, LAST, RECTIFY, EVEN, False, PRECISION, LATTICES, BLOCK_K, STAGES,
        )  # fmt: skip

    row = tl.arange(0, BLOCK_T * LATTICES)
    live, image, ty, tx = located(
        start + row // LATTICES, M, TH, TW, CONV_Y, CONV_X, at(POOL_Y, "stride"), at(POOL_X, "stride")
    )
    lattice = row % LATTICES
    live = live & (lattice < at(POOL_Y, "stride") * at(POOL_X, "stride"))
    y = (ty * at(POOL_Y, "stride") + lattice // at(POOL_X, "stride")) * at(CONV_Y, "stride") - at(CONV_Y, "padding")
    x = (tx * at(POOL_X, "stride") + lattice % at(POOL_X, "stride")) * at(CONV_X, "stride") - at(CONV_X, "padding")
    out = image * stride_n + y * stride_h + x * stride_w
    for block in tl.static_range(len(BLOCKS)):
        column = at(BLOCKS, block, 0) + tl.arange(0, at(BLOCKS, block, 1))
        down = column // D // at(CONV_X, "phases") * at(CONV_Y, "dilation")
        right = column // D % at(CONV_X, "phases") * at(CONV_X, "dilation")
        of_split = split * D + column % D
        in_y = (y[:, None] + down[None, :]).to(tl.uint32) < OH
        in_x = (x[:, None] + right[None, :]).to(tl.uint32) < OW
        mask = live[:, None] & (of_split < DG)[None, :] & in_y & in_x
        beside = down * stride_h + right * stride_w + (group * DG + of_split) * stride_d
        result = sums[block].to(out_ptr.dtype.element_ty)
        tl.store(out_ptr + out[:, None] + beside[None, :], result, mask=mask)

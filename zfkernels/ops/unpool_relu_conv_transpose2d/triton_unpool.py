"""Unpooling inside the Triton kernels: which pooling windows cover a tile of pixels, and the tile that they make.

All pixels of a tile have the same place in the lattice of the pooling's stride (row q = stride t + lattice). So the
windows that cover them, and the switch that each would need to point at them, are the same numbers for the whole tile:
scalars, found once per tap of the convolution, and not per element. An axis of a pooling is described by the tuple
(kernel, stride, padding, dilation, apart, cover): cells ``apart`` of a window share their place in the lattice, and at
most ``cover`` windows cover a pixel.
"""

from __future__ import annotations

import math

import triton
import triton.language as tl

from zfkernels.windows import Sliding


def pooling_axis(pool: Sliding, axis: int) -> tuple[int, ...]:
    """The tuple that describes one axis of a pooling."""
    kernel, stride, dilation = pool.kernel[axis], pool.stride[axis], pool.dilation[axis]
    apart = stride // math.gcd(stride, dilation)
    return kernel, stride, pool.padding[axis], dilation, apart, -(-kernel // apart)


@triton.jit
def covering(t, lattice, back, origin, LENGTH, CROP, BIAS: tl.constexpr, POOL: tl.constexpr, WINDOWED: tl.constexpr):
    """Along one axis, the windows that cover the pixels ``stride t + lattice - back``, from the first to the last.

    For each a tuple (index in the frame, in the frame, index in the crop, in the crop, cell that the switch names).
    ``BIAS`` strides make the pixel's index positive: Triton's division rounds towards zero.
    """
    at = lattice - back + (POOL[2] + BIAS * POOL[1])
    whole = at // POOL[1] - BIAS
    rest = at % POOL[1]
    first = rest
    if POOL[3] != 1:
        first = POOL[0] + 0 * rest
        for cell in tl.static_range(POOL[4]):
            first = tl.where((cell * POOL[3]) % POOL[1] == rest, cell, first)
    found = ()
    for turn in tl.static_range(POOL[5]):
        cell = first + (POOL[5] - 1 - turn) * POOL[4]
        index = t + (whole - (cell * POOL[3] - rest) // POOL[1])
        in_frame = (index.to(tl.uint32) < LENGTH) & (cell < POOL[0])
        if WINDOWED:
            place = index - origin
            found = found + ((index, in_frame, place, in_frame & (place.to(tl.uint32) < CROP), cell),)
        else:
            found = found + ((index, in_frame, index, in_frame, cell),)
    return found


@triton.jit
def unpooled(
    values_ptr, switches_ptr, rows, columns, pixel, switch_base, value_base, channel, in_channels, C, WP, CW,
    POOL_Y: tl.constexpr, POOL_X: tl.constexpr, WINDOWED: tl.constexpr,
    SWITCHED: tl.constexpr, LAST: tl.constexpr, RECTIFY: tl.constexpr,
):  # fmt: skip
    """The tile [pixels, channels] of unpooled, rectified values, in the values' dtype.

    Windows come in row-major order, so that the last one that matches is the last one of all.
    """
    tile = tl.full((pixel.shape[0], channel.shape[1]), 0.0, tl.float32)
    for turn in tl.static_range(POOL_Y[5] * POOL_X[5]):
        y, in_y, wy, crop_y, cell_y = rows[turn // POOL_X[5]]
        x, in_x, wx, crop_x, cell_x = columns[turn % POOL_X[5]]
        near = (pixel & in_y & in_x)[:, None] & in_channels
        mask = near
        if WINDOWED:
            mask = (pixel & crop_y & crop_x)[:, None] & in_channels
        value_at = (value_base + (wy * CW + wx) * C)[:, None] + channel
        value = tl.load(values_ptr + value_at, mask=mask, other=0.0).to(tl.float32)
        if SWITCHED:
            if WINDOWED:
                value_at = (switch_base + (y * WP + x) * C)[:, None] + channel
            switch = tl.load(switches_ptr + value_at, mask=near, other=0).to(tl.int32)
            hit = near & (switch == cell_y * POOL_X[0] + cell_x)
            if LAST:
                tile = tl.where(hit, value, tile)
            else:
                tile += tl.where(hit, value, 0.0)
        else:
            tile = value
    if RECTIFY:
        tile = tl.where(tile < 0, 0.0, tile)  # a NaN stays, as in torch.relu
    return tile.to(values_ptr.dtype.element_ty)

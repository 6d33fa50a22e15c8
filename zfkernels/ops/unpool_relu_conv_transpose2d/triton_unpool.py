"""Unpooling inside the Triton kernel: the tiles of unpooled pixels that a band of taps needs, each built once.

``triton_plan.py`` explains places, lattices and bands. A tile [T, K] holds one pixel of T places and K channels.
"""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl

from zfkernels.ops.unpool_relu_conv_transpose2d.triton_plan import Band, ConvolutionAxis, CoveringWindow, Pixel

NEVER = tl.constexpr(-65536)  # no switch, nor the sum with another row or column of one


# The index of each field in the named tuples of triton_plan.py: kernels get these tuples without the names.
PLACES = {
    name: place for kind in (ConvolutionAxis, Band, Pixel, CoveringWindow) for place, name in enumerate(kind._fields)
}


@triton.constexpr_function
def at(constant: Any, *path: int | str) -> Any:
    """What lies in a constant tuple of tuples behind these indices or names, one for each level.

    A subscript will not do: before Triton 3.8 it cannot give a tuple of tuples.
    """
    for step in path:
        constant = constant[PLACES[step] if isinstance(step, str) else step]
    return constant


@triton.constexpr_function
def among_all(band_y: Any, band_x: Any, tap: int, across: int) -> int:
    """The index of a tap of two bands among all taps, ``across`` of them in a row."""
    row = at(band_y, "first") + tap // at(band_x, "tap_count")
    return row * across + at(band_x, "first") + tap % at(band_x, "tap_count")


@triton.constexpr_function
def pixel_of(band_y: Any, band_x: Any, tap: int, lattice: int, lattices_y: int, lattices_x: int) -> int:
    """The index of the pixel, among all of two bands, that a tap of both reads for a lattice."""
    row = at(band_y, "pixel_of", tap // at(band_x, "tap_count"), lattice // lattices_x % lattices_y)
    return row * len(at(band_x, "pixels")) + at(band_x, "pixel_of", tap % at(band_x, "tap_count"), lattice % lattices_x)


@triton.constexpr_function
def met(row: Any, y: int, column: Any, x: int, across: int) -> int:
    """The index of the window that is number y over a row and x over a column, with ``across`` windows in a row."""
    return at(row, "windows", y, "number") * across + at(column, "windows", x, "number")


@triton.jit
def pointing(
    t, live, origin, LENGTH, CROP, PIXELS, BAND: tl.constexpr, STRIDE: tl.constexpr, SCALE: tl.constexpr,
    CROPPED: tl.constexpr, LAST: tl.constexpr,
):  # fmt: skip
    """For each pixel of the band and each window that covers it, the switch that points at it: SCALE times the cell.

    NEVER where the pixel or the window lies outside. CROPPED: zeros lie around the crop; they count where the last
    window wins.
    """
    found = ()
    for pixel in tl.static_range(len(at(BAND, "pixels"))):
        row = at(BAND, "pixels", pixel, "row")
        exists = live & ((t * STRIDE + row).to(tl.uint32) < PIXELS)
        for turn in tl.static_range(len(at(BAND, "pixels", pixel, "windows"))):
            index = t + at(BAND, "pixels", pixel, "windows", turn, "distance")
            valid = exists & (index.to(tl.uint32) < LENGTH)
            if CROPPED and not LAST:
                valid = valid & ((index - origin).to(tl.uint32) < CROP)
            found = found + (tl.where(valid, at(BAND, "pixels", pixel, "windows", turn, "cell") * SCALE, NEVER),)
    return found


@triton.jit
def clamped(index, length):
    return tl.minimum(tl.maximum(index, 0), length - 1)


@triton.jit
def unpooled(
    values, switches, points_y, points_x, ROW: tl.constexpr, COLUMN: tl.constexpr, ACROSS: tl.constexpr,
    DTYPE: tl.constexpr, SWITCHED: tl.constexpr, LAST: tl.constexpr, RECTIFY: tl.constexpr,
):  # fmt: skip
    """The tile of the pixel ROW of one band and COLUMN of another.

    Windows come in row-major order, so that the last one that points at the pixel is the last one of all.
    """
    tile = tl.full(values[0].shape, 0.0, tl.float32)
    for y in tl.static_range(len(at(ROW, "windows"))):
        for x in tl.static_range(len(at(COLUMN, "windows"))):
            point = points_y[at(ROW, "before") + y] + points_x[at(COLUMN, "before") + x]
            hit = switches[met(ROW, y, COLUMN, x, ACROSS)] == point[:, None] if SWITCHED else (point >= 0)[:, None]
            if LAST or not SWITCHED or (y == 0 and x == 0):
                tile = tl.where(hit, values[met(ROW, y, COLUMN, x, ACROSS)], tile)
            else:
                tile += tl.where(hit, values[met(ROW, y, COLUMN, x, ACROSS)], 0.0)
    if RECTIFY:
        tile = tl.maximum(tile, 0.0, propagate_nan=tl.PropagateNan.ALL)
    return tile.to(DTYPE)


@triton.jit
def joined(tiles):
    """Tiles [T, K] of L lattices, L a power of two, as the rows t L + l of one tile [T L, K]."""
    COUNT: tl.constexpr = len(tiles)
    for turn in tl.static_range(6):
        if (COUNT >> turn) > 1:
            merged = ()
            for index in tl.static_range(COUNT >> (turn + 1)):
                pair = tl.join(tiles[index], tiles[index + (COUNT >> (turn + 1))])
                merged = merged + (tl.reshape(tl.permute(pair, 0, 2, 1), (2 * pair.shape[0], pair.shape[1])),)
            tiles = merged
    return tiles[0]

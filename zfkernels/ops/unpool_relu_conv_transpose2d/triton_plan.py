"""What a stage's kernel knows when it is compiled: which taps read which unpooled pixels, and which windows cover them.

Along an axis, with PS the pooling's stride, a *place* t stands for the PS rows q = PS t + l, l one of the *lattices*.
Row q makes the outputs stride q + phase dilation - padding; its tap j reads the unpooled pixel PS t + l - j move. The
pooling window t + d covers the pixel PS t + r with its cell (r + padding - PS d) / dilation, whatever the place is: so
the windows that cover a pixel, and the switch that each needs to point at it, are numbers in the compiled code.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch.nn.functional as F
from torch import Tensor

from zfkernels.geometry import Pair, Sliding


class ConvolutionAxis(NamedTuple):
    """One axis of a convolution.

    Attributes:
        kernel, stride, padding, dilation: of the convolution along this axis.
        step: the distance, in taps, between two taps of the same phase of the stride.
        phases: how many phases of the stride have a tap at all.
        taps: the largest number of taps of a phase.
        move: each tap of a phase reads so many unpooled pixels further back than the tap before.
    """

    kernel: int
    stride: int
    padding: int
    dilation: int
    step: int
    phases: int
    taps: int
    move: int


class CoveringWindow(NamedTuple):
    """A pooling window that covers a pixel.

    Attributes:
        number: index of its distance among the distances of the band.
        distance: d of the explanation at the top of this file.
        cell: which cell of the window the pixel is.
    """

    number: int
    distance: int
    cell: int


class Pixel(NamedTuple):
    """An unpooled pixel that a band reads.

    Attributes:
        row: r of the explanation at the top of this file.
        windows: the windows that cover it, from the first to the last.
        before: the number of windows that cover the pixels before it, summed over these pixels.
    """

    row: int
    windows: tuple[CoveringWindow, ...]
    before: int


class Band(NamedTuple):
    """Neighbouring taps of an axis.

    Attributes:
        first: the first tap.
        tap_count: the number of taps.
        distances: d of the pooling windows that the taps read.
        pixels: the unpooled pixels that the taps read.
        pixel_of: the index of the pixel that a tap reads, by tap and lattice.
    """

    first: int
    tap_count: int
    distances: tuple[int, ...]
    pixels: tuple[Pixel, ...]
    pixel_of: tuple[tuple[int, ...], ...]


def constant(value: Any) -> Any:
    """Named tuples as plain tuples, at all levels: Triton does not keep the names everywhere."""
    return tuple(map(constant, value)) if isinstance(value, tuple) else value


def convolution_axis(conv: Sliding, axis: int) -> ConvolutionAxis:
    kernel, stride, padding, dilation = (pair[axis] for pair in (conv.kernel, conv.stride, conv.padding, conv.dilation))
    step = stride // math.gcd(stride, dilation)
    return ConvolutionAxis(
        kernel, stride, padding, dilation,
        step, min(step, kernel), -(-kernel // step), dilation // math.gcd(stride, dilation),
    )  # fmt: skip


def places(axis: ConvolutionAxis, outputs: int, lattices: int) -> int:
    """The places that a map of ``outputs`` needs."""
    first = -(-(axis.padding - (axis.phases - 1) * axis.dilation) // axis.stride)
    return (outputs - 1 + axis.padding) // axis.stride // lattices - first // lattices + 1


def band(taps: range, lattices: int, move: int, pooling: tuple[int, int, int, int]) -> Band:
    """What some taps of an axis of the convolution read under a pooling (kernel, stride, padding, dilation)."""
    kernel, stride, padding, dilation = pooling
    reads = sorted({lattice - tap * move for lattice in range(lattices) for tap in taps})
    covers = {
        r: [
            ((r + padding - cell * dilation) // stride, cell)
            for cell in reversed(range(kernel))
            if (r + padding - cell * dilation) % stride == 0
        ]
        for r in reads
    }
    distances = sorted({distance for covering in covers.values() for distance, _ in covering})
    pixels = tuple(
        Pixel(
            r,
            tuple(CoveringWindow(distances.index(distance), distance, cell) for distance, cell in covers[r]),
            sum(len(covers[before]) for before in reads[:turn]),
        )
        for turn, r in enumerate(reads)
    )
    read = tuple(tuple(reads.index(lattice - tap * move) for lattice in range(lattices)) for tap in taps)
    return Band(taps[0], len(taps), tuple(distances), pixels, read)


def blocks(columns: int) -> tuple[Pair, ...]:
    """Columns, a multiple of 16, cut into powers of two, at most 128, as (first, columns)."""
    cut: list[Pair] = []
    first = 0
    while first < columns:
        width = min(128, 1 << ((columns - first).bit_length() - 1))
        cut.append((first, width))
        first += width
    return tuple(cut)


def used(cut: tuple[Pair, ...], columns: int, axes: list[ConvolutionAxis]) -> tuple[tuple[bool, ...], ...]:
    """By tap and block of columns: does a phase have it. Nothing is multiplied with a block of nothing but zeros."""

    def has(axis: ConvolutionAxis, tap: int, phase: int) -> bool:
        return tap * axis.step + phase < axis.kernel

    (down, right) = axes
    return tuple(
        tuple(
            any(
                has(down, tap_y, phase // right.phases) and has(right, tap_x, phase % right.phases)
                for phase in range(first // columns, (first + width - 1) // columns + 1)
            )
            for first, width in cut
        )
        for tap_y in range(down.taps)
        for tap_x in range(right.taps)
    )


def bands(axis: ConvolutionAxis, pool: Sliding, at: int, together: int) -> tuple[Band, ...]:
    """The bands of an axis, with ``together`` taps in each; the last may have fewer."""
    pooling = (pool.kernel[at], pool.stride[at], pool.padding[at], pool.dilation[at])
    chunks = [range(tap, min(tap + together, axis.taps)) for tap in range(0, axis.taps, together)]
    return tuple(band(chunk, pool.stride[at], axis.move, pooling) for chunk in chunks)


def packed_filters(weight: Tensor, axes: list[ConvolutionAxis], groups: int, columns: int, block_k: int) -> Tensor:
    """[groups, splits, taps_y, taps_x, C', phases D]: zeros where a phase has no tap, C' a multiple of ``block_k``."""
    channels, outputs, *kernel = weight.shape
    in_group = channels // groups
    whole = -(-in_group // block_k) * block_k
    splits = -(-outputs // columns)
    rest = [axis.taps * axis.step - size for axis, size in zip(axes, kernel, strict=True)]
    by_group = weight.unflatten(0, (groups, in_group))
    padded = F.pad(by_group, (0, rest[1], 0, rest[0], 0, splits * columns - outputs, 0, whole - in_group))
    down, right = axes
    cut = padded.view(groups, whole, splits, columns, down.taps, down.step, right.taps, right.step)
    cut = cut[:, :, :, :, :, : down.phases, :, : right.phases]
    return cut.permute(0, 2, 4, 6, 1, 5, 7, 3).contiguous()

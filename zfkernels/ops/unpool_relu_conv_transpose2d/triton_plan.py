"""What a stage's kernel knows when it is compiled: which taps read which unpooled pixels, and which windows cover them.

An axis of the convolution is described by the tuple (kernel, stride, padding, dilation, step, phases, taps, move): taps
``step`` apart belong to the same phase of the stride, each ``move`` unpooled pixels further back; there are ``phases``
phases with a tap at all, and at most ``taps`` taps in a phase.

Along an axis, with PS the pooling's stride, a *place* t stands for the PS rows q = PS t + l, l one of the *lattices*.
Row q makes the outputs stride q + phase dilation - padding; its tap j reads the unpooled pixel PS t + l - j move. The
pooling window t + d covers the pixel PS t + r with its cell (r + padding - PS d) / dilation, whatever the place is: so
the windows that cover a pixel, and the switch that each needs to point at it, are numbers in the compiled code.
"""

from __future__ import annotations

import math
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from zfkernels.geometry import Pair, Sliding


def convolution_axis(conv: Sliding, axis: int) -> tuple[int, ...]:
    """The tuple that describes one axis of a convolution."""
    kernel, stride, padding, dilation = (pair[axis] for pair in (conv.kernel, conv.stride, conv.padding, conv.dilation))
    step = stride // math.gcd(stride, dilation)
    return (
        kernel, stride, padding, dilation,
        step, min(step, kernel), -(-kernel // step), dilation // math.gcd(stride, dilation),
    )  # fmt: skip


def places(axis: tuple[int, ...], outputs: int, lattices: int) -> int:
    """The places that a map of ``outputs`` needs."""
    _, stride, padding, dilation, _, phases, *_ = axis
    first = -(-(padding - (phases - 1) * dilation) // stride)
    return (outputs - 1 + padding) // stride // lattices - first // lattices + 1


def band(taps: range, lattices: int, move: int, pooling: tuple[int, int, int, int]) -> tuple[Any, ...]:
    """What some taps of an axis of the convolution read under a pooling (kernel, stride, padding, dilation).

    Returns:
        The tuple (first tap, taps, distances d of the windows read, pixels, indices of the pixels by tap and lattice);
        a pixel is the tuple (r, windows that cover it, windows that cover those before it); each of its windows is the
        tuple (index among the distances, distance, cell), from the first window to the last.
    """
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
        (
            r,
            tuple((distances.index(distance), distance, cell) for distance, cell in covers[r]),
            sum(len(covers[before]) for before in reads[:turn]),
        )
        for turn, r in enumerate(reads)
    )
    read = tuple(tuple(reads.index(lattice - tap * move) for lattice in range(lattices)) for tap in taps)
    return taps[0], len(taps), tuple(distances), pixels, read


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

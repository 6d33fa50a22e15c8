"""The ops as scalar loops over float64, written from the equations of their docstrings; slow, for small shapes.

Each takes the arguments of the public function; window_oracle.py has the ops on windows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

Maps = list[list[list[list[float]]]]


def pair(value: Any) -> tuple[int, int]:
    return tuple(value) if isinstance(value, (tuple, list)) else (value, value)


def outputs(length: int, kernel: int, stride: int, padding: int, dilation: int, ceil_mode: bool = False) -> int:
    """Counts the places of a sliding window one by one."""
    count = 0
    while True:
        first = count * stride - padding
        fits = first + (kernel - 1) * dilation < length + padding
        if ceil_mode:  # one more may hang over the end, if it starts inside the input or the padding before it
            fits = fits or (first < length and first - stride + (kernel - 1) * dilation < length + padding - 1)
        if not fits:
            return count
        count += 1


def taps(place: int, kernel: int, stride: int, padding: int, dilation: int, length: int) -> Iterator[tuple[int, int]]:
    """(tap, cell) of one place of a sliding window, the cells inside the input only."""
    for tap in range(kernel):
        cell = place * stride - padding + tap * dilation
        if 0 <= cell < length:
            yield tap, cell


def geometry(kernel: Any, stride: Any, padding: Any, dilation: Any) -> list[tuple[int, int, int, int]]:
    """(kernel, stride, padding, dilation) of the rows and of the columns."""
    stride = kernel if stride is None else stride
    return list(zip(pair(kernel), pair(stride), pair(padding), pair(dilation), strict=True))


def zeros(*shape: int) -> Any:
    return [zeros(*shape[1:]) for _ in range(shape[0])] if shape else 0.0


def as_tensor(maps: Maps, *shape: int) -> Tensor:
    return torch.tensor(maps, dtype=torch.float64).reshape(shape)


def max_pool2d_with_switches(
    input: Tensor, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool
) -> tuple[Tensor, Tensor]:
    rows, columns = geometry(kernel_size, stride, padding, dilation)
    n, channels, height, width = input.shape
    size = outputs(height, *rows, ceil_mode), outputs(width, *columns, ceil_mode)
    maps = input.tolist()
    values, switches = zeros(n, channels, *size), zeros(n, channels, *size)
    for m in range(n):
        for c in range(channels):
            for i in range(size[0]):
                for j in range(size[1]):
                    best, switch = -math.inf, None
                    for ky, y in taps(i, *rows, height):
                        for kx, x in taps(j, *columns, width):
                            value = maps[m][c][y][x]
                            if switch is None or value > best or math.isnan(value):
                                best, switch = value, ky * columns[0] + kx
                    values[m][c][i][j], switches[m][c][i][j] = best, switch
    return as_tensor(values, n, channels, *size), as_tensor(switches, n, channels, *size).to(torch.uint8)


def max_unpool2d_with_switches(
    values: Tensor, switches: Tensor, kernel_size: Any, stride: Any, padding: Any, dilation: Any, output_size: Any,
    overlap: str,
) -> Tensor:  # fmt: skip
    rows, columns = geometry(kernel_size, stride, padding, dilation)
    n, channels, height, width = values.shape
    size = pair(output_size)
    out, maps, codes = zeros(n, channels, *size), values.tolist(), switches.tolist()
    for m in range(n):
        for c in range(channels):
            for i in range(height):
                for j in range(width):
                    for ky, y in taps(i, *rows, size[0]):
                        for kx, x in taps(j, *columns, size[1]):
                            if codes[m][c][i][j] == ky * columns[0] + kx:
                                before = out[m][c][y][x] if overlap == "sum" else 0.0
                                out[m][c][y][x] = before + maps[m][c][i][j]
    return as_tensor(out, n, channels, *size)


def unpool_relu_conv_transpose2d(
    values: Tensor, switches: Tensor | None, weight: Tensor, output_size: Any, stride: Any, padding: Any,
    dilation: Any, groups: int, pool_kernel_size: Any = None, pool_stride: Any = None, pool_padding: Any = 0,
    pool_dilation: Any = 1, overlap: str = "sum", rectify: bool = True,
) -> Tensor:  # fmt: skip
    rows, columns = geometry(tuple(weight.shape[2:]), stride, padding, dilation)
    height, width = pair(output_size)
    if switches is not None:
        size = outputs(height, *rows), outputs(width, *columns)
        values = max_unpool2d_with_switches(
            values, switches, pool_kernel_size, pool_stride, pool_padding, pool_dilation, size, overlap
        )
    maps, filters = values.tolist(), weight.tolist()
    each, of_each = weight.shape[0] // groups, weight.shape[1]
    out = zeros(values.shape[0], of_each * groups, height, width)
    for m in range(values.shape[0]):
        for c in range(weight.shape[0]):
            for i in range(values.shape[2]):
                for j in range(values.shape[3]):
                    value = maps[m][c][i][j]
                    if value == 0 or (rectify and value < 0):
                        continue
                    for ky, y in taps(i, *rows, height):
                        for kx, x in taps(j, *columns, width):
                            for d in range(of_each):
                                out[m][c // each * of_each + d][y][x] += value * filters[c][d][ky][kx]
    return as_tensor(out, values.shape[0], of_each * groups, height, width)


def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
    relu: bool,
) -> Tensor:
    rows, columns = geometry(tuple(weight.shape[2:]), stride, padding, dilation)
    n, channels, height, width = input.shape
    size = outputs(height, *rows), outputs(width, *columns)
    each, of_each = weight.shape[0] // groups, channels // groups
    maps, filters = input.tolist(), weight.tolist()
    out = zeros(n, weight.shape[0], *size)
    for m in range(n):
        for o in range(weight.shape[0]):
            for i in range(size[0]):
                for j in range(size[1]):
                    total = 0.0 if bias is None else float(bias[o])
                    for ky, y in taps(i, *rows, height):
                        for kx, x in taps(j, *columns, width):
                            for c in range(of_each):
                                total += filters[o][c][ky][kx] * maps[m][o // each * of_each + c][y][x]
                    out[m][o][i][j] = 0.0 if relu and total < 0 else total
    return as_tensor(out, n, weight.shape[0], *size)

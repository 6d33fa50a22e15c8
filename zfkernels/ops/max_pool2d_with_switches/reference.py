"""Max-pooling that remembers the place of each maximum in one byte, in plain PyTorch."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from zfkernels.geometry import Pair
from zfkernels.ops._allocation import memory_format


def max_pool2d_with_switches(
    input: Tensor,  # [N, C, H, W]
    kernel_size: Pair,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    ceil_mode: bool,
) -> tuple[Tensor, Tensor]:  # [N, C, Hp, Wp], uint8 [N, C, Hp, Wp]
    values, indices = F.max_pool2d(
        input, kernel_size, stride, padding, dilation, ceil_mode=ceil_mode, return_indices=True
    )
    switches = indices_to_switches(indices, input.shape[3], kernel_size, stride, padding, dilation)
    format = memory_format(input)  # max_pool2d goes by the strides of slices too
    return values.contiguous(memory_format=format), switches.contiguous(memory_format=format)


def indices_to_switches(
    indices: Tensor, width: int, kernel_size: Pair, stride: Pair, padding: Pair, dilation: Pair
) -> Tensor:
    top, left = corners(indices.shape[2:], stride, padding, indices.device)
    ky = (indices // width - top) // dilation[0]
    kx = (indices % width - left) // dilation[1]
    return (ky * kernel_size[1] + kx).to(torch.uint8)


def in_their_windows(
    indices: Tensor, size: Pair, kernel_size: Pair, stride: Pair, padding: Pair, dilation: Pair
) -> Tensor:
    """bool [N, C, Hp, Wp]: which indices name a cell of the layer below, of ``size``, that their own window reads."""
    top, left = corners(indices.shape[2:], stride, padding, indices.device)
    inside = (indices >= 0) & (indices < size[0] * size[1])
    for axis, move in enumerate((indices // size[1] - top, indices % size[1] - left)):
        inside &= (move >= 0) & (move < kernel_size[axis] * dilation[axis]) & (move % dilation[axis] == 0)
    return inside


def switches_to_indices(
    switches: Tensor, width: int, kernel_size: Pair, stride: Pair, padding: Pair, dilation: Pair
) -> Tensor:
    row, column = switched_cells(switches, kernel_size, stride, padding, dilation)
    return row * width + column


def switched_cells(
    switches: Tensor, kernel_size: Pair, stride: Pair, padding: Pair, dilation: Pair
) -> tuple[Tensor, Tensor]:
    """Row and column, each int64 [N, C, Hp, Wp], of the cells below that the switches point at."""
    top, left = corners(switches.shape[2:], stride, padding, switches.device)
    cell = switches.long()
    return top + cell // kernel_size[1] * dilation[0], left + cell % kernel_size[1] * dilation[1]


def at_switches(
    switches: Tensor,  # uint8 [N, C, Hp, Wp]
    size: Pair,
    kernel_size: Pair,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
) -> Callable[[Tensor], Tensor]:
    """From maps [N, C, *size] to what stands at the switches, [N, C, Hp, Wp]; zero where one points outside."""
    row, column = switched_cells(switches, kernel_size, stride, padding, dilation)
    inside = (row >= 0) & (row < size[0]) & (column >= 0) & (column < size[1])
    inside &= switches.long() < kernel_size[0] * kernel_size[1]
    index = torch.where(inside, row * size[1] + column, 0).flatten(2)
    return lambda maps: torch.where(inside, maps.flatten(2).gather(2, index).view(switches.shape), 0)


def corners(size: tuple[int, ...], stride: Pair, padding: Pair, device: torch.device) -> tuple[Tensor, Tensor]:
    """Row [Hp, 1] and column [1, Wp] of the first cell of each pooling window; negative inside the padding."""
    top = torch.arange(size[0], device=device) * stride[0] - padding[0]
    left = torch.arange(size[1], device=device) * stride[1] - padding[1]
    return top[:, None], left[None, :]

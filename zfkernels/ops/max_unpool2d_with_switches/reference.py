"""Unpooling with switches in plain PyTorch, one cell of the pooling window at a time.

Cells of different windows that share their offset (ky, kx) never meet, so each offset is one strided slice: no
collision, no atomics, and a fixed order of summation on every device.
"""

from __future__ import annotations

import torch
from torch import Tensor

from zfkernels.geometry import Pair, Sliding
from zfkernels.ops._allocation import empty_like_format


def max_unpool2d_with_switches(
    values: Tensor,  # [N, C, Hp, Wp]
    switches: Tensor,  # uint8 [N, C, Hp, Wp]
    kernel_size: Pair,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    output_size: Pair,  # (H, W)
    overlap: str,
) -> Tensor:  # [N, C, H, W]
    padded = unpool_padded(values, switches, Sliding(kernel_size, stride, padding, dilation), output_size, overlap)
    inner = padded[:, :, padding[0] : padding[0] + output_size[0], padding[1] : padding[1] + output_size[1]]
    return empty_like_format(values, inner.shape).copy_(inner)


def _padded_frame(pooled: Pair, layer: Sliding, size: Pair) -> Pair:
    span = layer.span(pooled)
    return max(size[0] + 2 * layer.padding[0], span[0]), max(size[1] + 2 * layer.padding[1], span[1])


def _under(padded: Tensor, cell: int, layer: Sliding, pooled: Pair) -> Tensor:
    """The pixels [N, C, Hp, Wp] that lie under one cell of every pooling window, as a view."""
    top = cell // layer.kernel[1] * layer.dilation[0]
    left = cell % layer.kernel[1] * layer.dilation[1]
    bottom = top + (pooled[0] - 1) * layer.stride[0] + 1
    right = left + (pooled[1] - 1) * layer.stride[1] + 1
    return padded[:, :, top : bottom : layer.stride[0], left : right : layer.stride[1]]


def unpool_padded(values: Tensor, switches: Tensor, layer: Sliding, size: Pair, overlap: str) -> Tensor:
    """Unpools into a frame that holds the padding too; float16 and bfloat16 are summed in float32."""
    dtype = torch.promote_types(values.dtype, torch.float32)
    pooled = (values.shape[2], values.shape[3])
    frame = _padded_frame(pooled, layer, size)
    out = values.new_zeros((values.shape[0], values.shape[1], *frame), dtype=dtype)
    # The last window in row-major order has the smallest offset, so "last" writes the largest offset first.
    for cell in reversed(range(layer.kernel[0] * layer.kernel[1])):
        target = _under(out, cell, layer, pooled)
        here = switches == cell
        if overlap == "sum":
            target += torch.where(here, values, 0)
        else:
            target.copy_(torch.where(here, values.to(dtype), target))
    return out

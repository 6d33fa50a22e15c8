"""One DeconvNet stage, unpool with switches -> ReLU -> transposed convolution, in plain PyTorch.

With s the switches, v the values and w the forward convolution's weight:

    u[c, y, x]  = sum (or the last) of v[c, i, j] over the pooling windows (i, j) whose switch points at (y, x)
    out[d, y, x] = sum over c, ky, kx of w[c, d, ky, kx] * max(u[c, (y + p - ky) / s, (x + p - kx) / s], 0)
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from zfkernels.geometry import Pair, Sliding
from zfkernels.ops._allocation import empty_like_format
from zfkernels.ops.max_unpool2d_with_switches.reference import unpool_padded


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
    dtype = torch.promote_types(values.dtype, torch.float32)
    unpooled = unpool(values.to(dtype), switches, pool, unpooled_size, overlap)
    out = transposed(rectified(unpooled, rectify), weight.to(dtype), conv, groups, output_size)
    return empty_like_format(values, out.shape).copy_(out)


def unpool(values: Tensor, switches: Tensor | None, pool: Sliding, size: Pair, overlap: str) -> Tensor:
    """Full maps unpooled to ``size``; the values themselves without switches."""
    if switches is None:
        return values
    top, left = pool.padding
    return unpool_padded(values, switches, pool, size, overlap)[:, :, top : top + size[0], left : left + size[1]]


def rectified(values: Tensor, rectify: bool) -> Tensor:
    return values.relu() if rectify else values


def transposed(values: Tensor, weight: Tensor, conv: Sliding, groups: int, size: Pair) -> Tensor:
    """The adjoint of a convolution whose input has ``size``."""
    least = conv.span((values.shape[2], values.shape[3]))
    rest = (size[0] + 2 * conv.padding[0] - least[0], size[1] + 2 * conv.padding[1] - least[1])
    return F.conv_transpose2d(values, weight, None, conv.stride, conv.padding, rest, groups, conv.dilation)

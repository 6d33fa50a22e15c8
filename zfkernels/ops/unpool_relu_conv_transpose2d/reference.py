"""One DeconvNet stage, unpool with switches -> ReLU -> transposed convolution, in plain PyTorch.

With s the switches, v the values and w the forward convolution's weight:

    u[c, y, x]  = sum (or the last) of v[c, i, j] over the pooling windows (i, j) whose switch points at (y, x)
    out[d, y, x] = sum over c, ky, kx of w[c, d, ky, kx] * max(u[c, (y + p - ky) / s, (x + p - kx) / s], 0)
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from zfkernels.ops._checks import Pair, empty_like_format
from zfkernels.ops.max_unpool2d_with_switches.reference import unpool_padded
from zfkernels.windows import Sliding, Windows, crop, per_axis


def unpool_relu_conv_transpose2d(
    values: Tensor,  # [N, C, Hp, Wp], or windows [P, C, h, w]
    switches: Tensor | None,  # uint8 [N, C, Hp, Wp]
    weight: Tensor,  # [C, C_in / groups, kh, kw]
    origins: Tensor | None,  # int32 [P, 2]
    image: Tensor | None,  # int64 [P]
    out_origins: Tensor | None,  # int32 [P, 2]
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
) -> Tensor:  # [N or P, C_in, *output_size]
    pool = Sliding(pool_kernel_size, pool_stride, pool_padding, pool_dilation)
    conv = Sliding((weight.shape[2], weight.shape[3]), stride, padding, dilation)
    dtype = torch.promote_types(values.dtype, torch.float32)
    if origins is None or image is None or out_origins is None:
        unpooled = unpool(values.to(dtype), switches, pool, unpooled_size, overlap)
        out = transposed(rectified(unpooled, rectify), weight.to(dtype), conv, groups, output_size)
        return empty_like_format(values, out.shape).copy_(out)
    start = origins
    windows = values.to(dtype)
    if switches is not None:
        windows, start = _unpool_windows(windows, switches, origins, image, pool, unpooled_size, overlap)
    spread = F.conv_transpose2d(
        rectified(windows, rectify), weight.to(dtype), None, stride, 0, 0, groups, dilation
    )  # every pixel that the crop can reach, those outside the frame too
    reach = Windows(spread, start * per_axis(start, stride) - per_axis(start, padding), image, (0, 0))
    out = crop(None, out_origins, image, output_size, windows=reach)
    return out.to(values.dtype)


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


def _unpool_windows(
    values: Tensor, switches: Tensor, origins: Tensor, image: Tensor, pool: Sliding, frame: Pair, overlap: str
) -> tuple[Tensor, Tensor]:
    """Unpools crops; the second result is the origin of the unpooled crop, which may lie in the padding."""
    size = (values.shape[2], values.shape[3])
    if overlap == "last":  # pooling windows around the crop hold zeros, and those win too
        margin = (pool.extent[0] - 1) // pool.stride[0], (pool.extent[1] - 1) // pool.stride[1]
        size = (size[0] + 2 * margin[0], size[1] + 2 * margin[1])
        around = origins - per_axis(origins, margin)
        values = crop(None, around, image, size, windows=Windows(values, origins, image, (0, 0)))
        origins = around
    codes = crop(switches.to(torch.int16), origins, image, size, fill=-1)
    unpooled = unpool_padded(values, codes, pool, (0, 0), overlap)
    start = origins * per_axis(origins, pool.stride) - per_axis(origins, pool.padding)
    for axis in (0, 1):  # a switch may point outside the frame
        cell = start[:, axis, None] + torch.arange(unpooled.shape[2 + axis], device=start.device)
        outside = (cell < 0) | (cell >= frame[axis])
        unpooled = unpooled.masked_fill_(outside[:, None, :, None] if axis == 0 else outside[:, None, None, :], 0)
    return unpooled, start

"""Convolution of windows in their frames, in plain PyTorch: gather the cells that the outputs read, then convolve.

out[p, :, y, x] = (conv2d(paste(values[p], frames[image[p]])) + bias)[:, out_origins[p] + (y, x)], then ReLU if asked
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from zfkernels.windows import Pair, Sliding, Windows, crop, per_axis


def window_conv2d(
    values: Tensor,  # [P, C, h, w]
    origins: Tensor,  # int32 [P, 2]
    image: Tensor,  # int64 [P]
    frames: Tensor,  # [N, C, H, W]
    weight: Tensor,  # [C_out, C / groups, kh, kw]
    bias: Tensor | None,  # [C_out]
    out_origins: Tensor,  # int32 [P, 2]
    out_size: Pair,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
    relu: bool,
) -> Tensor:  # [P, C_out, *out_size]
    layer = Sliding((weight.shape[2], weight.shape[3]), stride, padding, dilation)
    windows = Windows(values, origins, image, (frames.shape[2], frames.shape[3]))
    region = crop(frames, first_read(out_origins, layer), image, layer.span(out_size), windows=windows)
    return convolve(region, weight, bias, layer, groups, relu)


def first_read(out_origins: Tensor, layer: Sliding) -> Tensor:
    """The first cell, possibly in the padding, that output windows at ``out_origins`` read."""
    return out_origins * per_axis(out_origins, layer.stride) - per_axis(out_origins, layer.padding)


def convolve(region: Tensor, weight: Tensor, bias: Tensor | None, layer: Sliding, groups: int, relu: bool) -> Tensor:
    """Convolution without padding (``region`` holds it), float16 and bfloat16 accumulated in float32, then ReLU."""
    dtype = torch.promote_types(region.dtype, torch.float32)
    bias = None if bias is None else bias.to(dtype)
    out = F.conv2d(region.to(dtype), weight.to(dtype), bias, layer.stride, 0, layer.dilation, groups)
    out = out.relu_() if relu else out
    return out.to(region.dtype).contiguous(memory_format=torch.channels_last)

"""The first convolution of an occlusion sweep, in plain PyTorch.

With q the square at positions[p], clipped to the image, and f the fill:

    x[p, c, y, x] = f[c] (or f[image[p], c, y, x]) inside q, images[image[p], c, y, x] elsewhere
    out[p, :, y, x] = (conv2d(x[p]) + bias)[:, out_origins[p] + (y, x)], then ReLU if asked
"""

from __future__ import annotations

import torch
from torch import Tensor

from zfkernels.ops.window_conv2d.reference import convolve, first_read
from zfkernels.windows import Pair, Sliding, crop


def occluded_conv2d(
    images: Tensor,  # [N, C, H, W]
    weight: Tensor,  # [C_out, C / groups, kh, kw]
    bias: Tensor | None,  # [C_out]
    positions: Tensor,  # int32 [P, 2]
    image: Tensor,  # int64 [P]
    fill: Tensor,  # [C] or [N, C, H, W]
    window: Pair,
    out_origins: Tensor,  # int32 [P, 2]
    out_size: Pair,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
    relu: bool,
) -> Tensor:  # [P, C_out, *out_size]
    layer = Sliding((weight.shape[2], weight.shape[3]), stride, padding, dilation)
    start = first_read(out_origins, layer)
    return convolve(
        occluded_crop(images, positions, image, fill, window, start, layer.span(out_size)),
        weight, bias, layer, groups, relu,
    )  # fmt: skip


def occluded_crop(
    images: Tensor, positions: Tensor, image: Tensor, fill: Tensor, window: Pair, origins: Tensor, size: Pair
) -> Tensor:
    """Crops [P, C, h, w] at ``origins`` of the occluded images, zeros outside the image."""
    region = crop(images, origins, image, size)
    covered = []
    for axis in (0, 1):
        cell = origins[:, axis, None] + torch.arange(size[axis], device=images.device)
        first = positions[:, axis, None]
        last = (first + window[axis]).clamp(max=images.shape[2 + axis])
        covered.append((cell >= first) & (cell < last))
    inside = (covered[0][:, :, None] & covered[1][:, None, :])[:, None]
    square = fill[:, None, None] if fill.dim() == 1 else crop(fill, origins, image, size)
    return torch.where(inside, square, region)

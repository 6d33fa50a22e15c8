"""Max-pooling of windows in their frames, in plain PyTorch; the padding never wins."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from zfkernels.ops.window_conv2d.reference import first_read
from zfkernels.windows import Pair, Sliding, Windows, crop


def window_max_pool2d(
    values: Tensor,  # [P, C, h, w]
    origins: Tensor,  # int32 [P, 2]
    image: Tensor,  # int64 [P]
    frames: Tensor,  # [N, C, H, W]
    kernel_size: Pair,
    out_origins: Tensor,  # int32 [P, 2]
    out_size: Pair,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
) -> Tensor:  # [P, C, *out_size]
    layer = Sliding(kernel_size, stride, padding, dilation)
    windows = Windows(values, origins, image, (frames.shape[2], frames.shape[3]))
    start = first_read(out_origins, layer)
    region = crop(frames, start, image, layer.span(out_size), windows=windows, fill=float("-inf"))
    return F.max_pool2d(region, kernel_size, stride, 0, dilation).contiguous(memory_format=torch.channels_last)

"""``window_max_pool2d``: schema, fake kernel, refusal of gradients, variants and the public function."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from zfkernels.ops import _checks as check
from zfkernels.ops._library import define, no_gradient
from zfkernels.ops.max_pool2d_with_switches.op import pooling
from zfkernels.ops.window_max_pool2d import reference
from zfkernels.windows import Pair, Windows

NAME = "window_max_pool2d"


def window_max_pool2d(
    windows: Windows,  # [P, C, h, w]
    frames: Tensor,  # [N, C, H, W]
    kernel_size: int | Pair,
    stride: int | Pair | None = None,
    padding: int | Pair = 0,
    dilation: int | Pair = 1,
    *,
    out_size: Pair | None = None,
    out_origins: Tensor | None = None,
    ceil_mode: bool = False,
    backend: str | None = None,
) -> Windows:
    """Max-pooling of windows, each in its own place of its image's frame: the outputs that the windows can change.

    Args:
        windows: P crops of the layer, [P, C, h, w].
        frames: [N, C, H, W], the layer around the crops, one frame for each image.
        kernel_size: window of the pooling, at most 256 cells.
        stride: defaults to ``kernel_size``.
        padding: at most half the kernel; padding never wins.
        dilation: in cells.
        out_size: (h', w') of the resulting windows; by default as many outputs as a crop of this size can touch.
        out_origins: int32 [P, 2], where they lie in the output; by default the first output that each crop touches.
        ceil_mode: pooling windows may hang over the bottom and right border.
        backend: variant asked for by name; None chooses by device.

    Returns:
        Windows [P, C, h', w'], channels last, of ``windows``' dtype. Not differentiable, and says so.

    Raises:
        TypeError: wrong type or dtype.
        ValueError: wrong shape, device or geometry.
        BackendError: ``backend`` cannot run here.
    """
    check.windows(NAME, "windows", windows)
    check.frames(NAME, frames, windows)
    layer = pooling(NAME, kernel_size, stride, padding, dilation)
    check.flag(NAME, "ceil_mode", ceil_mode)
    frame = check.layer_output(NAME, "frames", layer, windows.frame, ceil_mode)
    out_origins, size = check.output_windows(
        NAME, windows.origins, windows.size, windows.frame, layer, frame, out_size, out_origins
    )
    out = op(
        windows.values, windows.origins, windows.image, frames, layer.kernel, out_origins, size,
        layer.stride, layer.padding, layer.dilation, backend=backend,
    )  # fmt: skip
    return Windows(out, out_origins, windows.image, frame)


def _fake(values: Tensor, *args: Any) -> Tensor:
    return check.empty_channels_last(values, (values.shape[0], values.shape[1], *args[5]))


op = define(
    f"{NAME}(Tensor values, Tensor origins, Tensor image, Tensor frames, int[2] kernel_size, Tensor out_origins,"
    " SymInt[2] out_size, int[2] stride, int[2] padding, int[2] dilation) -> Tensor",
    fake=_fake,
    backward=no_gradient(NAME),
)
op.reference(reference.window_max_pool2d)
op.native("cpp", (torch.float32, torch.float64))
op.native("cuda", (torch.float32, torch.float16, torch.bfloat16))
op.triton((torch.float32, torch.float16, torch.bfloat16))

"""``window_conv2d``: schema, fake kernel, refusal of gradients, variants and the public function."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from zfkernels.ops import _checks as check
from zfkernels.ops._library import define, no_gradient
from zfkernels.ops.window_conv2d import reference
from zfkernels.windows import Pair, Windows

NAME = "window_conv2d"


def window_conv2d(
    windows: Windows,  # [P, C, h, w]
    frames: Tensor,  # [N, C, H, W]
    weight: Tensor,  # [C_out, C / groups, kh, kw]
    bias: Tensor | None = None,  # [C_out]
    *,
    out_size: Pair | None = None,
    out_origins: Tensor | None = None,
    stride: int | Pair = 1,
    padding: int | Pair = 0,
    dilation: int | Pair = 1,
    groups: int = 1,
    relu: bool = False,
    backend: str | None = None,
) -> Windows:
    """Convolution of windows, each in its own place of its image's frame: the outputs that the windows can change.

    The result holds the same numbers as pasting each window into its frame, convolving the whole and cropping.

    Args:
        windows: P crops of the layer, [P, C, h, w].
        frames: [N, C, H, W], the layer around the crops, one frame for each image.
        weight: [C_out, C / groups, kh, kw].
        bias: [C_out] or None.
        out_size: (h', w') of the resulting windows; by default as many outputs as a crop of this size can touch.
        out_origins: int32 [P, 2], where they lie in the output; by default the first output that each crop touches.
        stride: of the convolution, as are ``padding``, ``dilation`` and ``groups``.
        padding: zeros around the frame, in cells.
        dilation: in cells.
        groups: number of groups.
        relu: apply the ReLU to the result.
        backend: variant asked for by name; None chooses by device.

    Returns:
        Windows [P, C_out, h', w'], channels last, of ``windows``' dtype. Not differentiable, and says so.

    Raises:
        TypeError: wrong type or dtype.
        ValueError: wrong shape, device or geometry.
        BackendError: ``backend`` cannot run here.
    """
    check.windows(NAME, "windows", windows)
    check.frames(NAME, frames, windows)
    check.filters(NAME, weight, bias, "windows", windows.values, groups)
    layer = check.convolution(NAME, weight, stride, padding, dilation)
    check.flag(NAME, "relu", relu)
    frame = check.layer_output(NAME, "frames", layer, windows.frame)
    out_origins, size = check.output_windows(
        NAME, windows.origins, windows.size, windows.frame, layer, frame, out_size, out_origins
    )
    out = op(
        windows.values, windows.origins, windows.image, frames, weight, bias, out_origins, size,
        layer.stride, layer.padding, layer.dilation, groups, relu, backend=backend,
    )  # fmt: skip
    return Windows(out, out_origins, windows.image, frame)


def _fake(values: Tensor, origins: Any, image: Any, frames: Any, weight: Tensor, *args: Any) -> Tensor:
    return check.empty_channels_last(values, (values.shape[0], weight.shape[0], *args[2]))


op = define(
    f"{NAME}(Tensor values, Tensor origins, Tensor image, Tensor frames, Tensor weight, Tensor? bias,"
    " Tensor out_origins, SymInt[2] out_size, int[2] stride, int[2] padding, int[2] dilation, int groups, bool relu)"
    " -> Tensor",
    fake=_fake,
    backward=no_gradient(NAME),
)
op.reference(reference.window_conv2d)
op.native("cpp", (torch.float32, torch.float64))
op.native("cuda", (torch.float32, torch.float16, torch.bfloat16))
op.triton((torch.float32, torch.float16, torch.bfloat16))
# By static figures that no one has measured: benchmarks/gpu_static_report.md, "Triton or CUDA".
op.prefer("cuda", "triton", "cuda", "reference")

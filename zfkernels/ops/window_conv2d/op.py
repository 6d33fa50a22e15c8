"""``window_conv2d`` on windows: schema, fake kernel, refusal of gradients, variants and the public function."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from zfkernels.geometry import Pair
from zfkernels.ops import _checks as check
from zfkernels.ops import _window_arguments as arguments
from zfkernels.ops import _window_guards as guards
from zfkernels.ops._registry import define, no_gradient
from zfkernels.ops.window_conv2d import reference
from zfkernels.windows import Layout, Windows

NAME = "window_conv2d"


def window_conv2d(
    windows: Windows,
    frames: Tensor | None,  # [N, C, H, W]
    weight: Tensor,  # [C_out, C / groups, kh, kw]
    bias: Tensor | None = None,  # [C_out]
    *,
    out_boxes: Tensor | Layout | None = None,
    stride: int | Pair = 1,
    padding: int | Pair = 0,
    dilation: int | Pair = 1,
    groups: int = 1,
    relu: bool = False,
    backend: str | None = None,
) -> Windows:
    """Convolution of windows, each in its own place of its image's frame: the outputs that the windows can change.

    The result holds the same numbers as pasting each window into its frame, convolving the whole and cropping. One
    launch for all windows, whatever their sizes. The C++ variant may compute filters of 3x3 with stride 1 in tiles of
    2x2 outputs (Winograd's transform). Then an output that reads an infinite cell may be NaN instead of infinite.

    Args:
        windows: P windows of the layer, values [cells, C].
        frames: [N, C, H, W], the layer around the windows, one frame for each image; None: zeros around them.
        weight: [C_out, C / groups, kh, kw].
        bias: [C_out] or None.
        out_boxes: which outputs: int32 [P, 4] (top, left, height, width) in the output, or a Layout of it, with which
            no tensor is read on the host; None: exactly the outputs that each window can change.
        stride: of the convolution, as are ``padding``, ``dilation`` and ``groups``.
        padding: zeros around the frame, in cells.
        dilation: in cells.
        groups: number of groups.
        relu: apply the ReLU to the result.
        backend: variant asked for by name; None chooses by device.

    Returns:
        P windows of the output, values [cells', C_out] of ``windows``' dtype. Not differentiable, and says so.

    Raises:
        TypeError: wrong type or dtype.
        ValueError: wrong shape, device or geometry; on a CPU also boxes outside the frame, offsets that do not fit
            them, and images that ``frames`` does not have.
        BackendError: ``backend`` cannot run here.
    """
    windows = arguments.windows(NAME, "windows", windows)
    arguments.frames(NAME, frames, windows)
    check.filters(NAME, weight, bias, "windows", windows.values, groups)
    layer = check.convolution(NAME, weight, stride, padding, dilation)
    check.flag(NAME, "relu", relu)
    out_frame = check.layer_output(NAME, "windows.frame", layer, windows.frame)
    at = arguments.outputs_of(NAME, out_boxes, windows, layer, out_frame)
    out = op(
        windows.values, windows.boxes, windows.offsets, windows.image, frames, windows.frame, weight, bias,
        at.boxes, at.offsets, at.owner, at.cells, layer.stride, layer.padding, layer.dilation, groups, relu,
        backend=backend,
    )  # fmt: skip
    return at.windows(out)


def _fake(*, values: Tensor, weight: Tensor, cells: int, **_: Any) -> Tensor:
    return values.new_empty(cells, weight.shape[0])


def _guard(*, values: Any, weight: Any, bias: Any, groups: int, **args: Any) -> None:
    guards.windows(NAME, values=values, **args)
    check.filters(NAME, weight, bias, "values", values, groups)
    guards.outputs(NAME, **args)


def _flops(*, weight: Any, cells: int, **_: Any) -> int:
    return 2 * cells * math.prod(weight)


op = define(
    f"{NAME}(Tensor values, Tensor boxes, Tensor offsets, Tensor image, Tensor? frames, SymInt[2] frame,"
    " Tensor weight, Tensor? bias, Tensor out_boxes, Tensor out_offsets, Tensor owner, SymInt cells, int[2] stride,"
    " int[2] padding, int[2] dilation, int groups, bool relu) -> Tensor",
    fake=_fake,
    backward=no_gradient(NAME),
    guard=_guard,
    flops=_flops,
)
op.reference(reference.window_conv2d)
op.native("cpp", (torch.float32, torch.float64, torch.bfloat16))
op.native("cuda", (torch.float32, torch.float16, torch.bfloat16))
op.triton((torch.float32, torch.float16, torch.bfloat16))
# By static figures that no one has measured: benchmarks/gpu_static_report.md, "Triton or CUDA".
op.prefer("cuda", "triton", "cuda", "reference")

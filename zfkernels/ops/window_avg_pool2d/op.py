"""``window_avg_pool2d`` on windows: schema, fake kernel, refusal of gradients, variants, public function."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from zfkernels.geometry import Pair
from zfkernels.ops import _checks as check
from zfkernels.ops import _window_arguments as arguments
from zfkernels.ops import _window_guards as guards
from zfkernels.ops._registry import define, no_gradient
from zfkernels.ops.window_avg_pool2d import reference
from zfkernels.windows import Layout, Windows

NAME = "window_avg_pool2d"


def window_avg_pool2d(
    windows: Windows,
    frames: Tensor | None,  # [N, C, H, W]
    kernel_size: int | Pair,
    stride: int | Pair | None = None,
    padding: int | Pair = 0,
    *,
    out_boxes: Tensor | Layout | None = None,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    backend: str | None = None,
) -> Windows:
    """Average pooling of windows, each in its own place of its image's frame: the outputs that they can change.

    The numbers of ``F.avg_pool2d`` on the whole frame.

    Args:
        windows: P windows of the layer, values [cells, C].
        frames: [N, C, H, W], the layer around the windows, one frame for each image; None: zeros around them.
        kernel_size: window of the pooling.
        stride: defaults to ``kernel_size``.
        padding: zeros around the frame, at most half the kernel.
        out_boxes: which outputs: int32 [P, 4] (top, left, height, width) in the output, or a Layout of it, with which
            no tensor is read on the host; None: exactly the outputs that each window can change.
        ceil_mode: pooling windows may hang over the bottom and right border.
        count_include_pad: the padding counts in the divisor; what hangs over it never does.
        divisor_override: divide by this number, above 0, in place of the number of cells.
        backend: variant asked for by name; None chooses by device.

    Returns:
        P windows of the output, values [cells', C] of ``windows``' dtype. Not differentiable, and says so.

    Raises:
        TypeError: wrong type or dtype.
        ValueError: wrong shape, device or geometry; on a CPU also boxes outside the frame, offsets that do not fit
            them, and images that ``frames`` does not have.
        BackendError: ``backend`` cannot run here.
    """
    windows = arguments.windows(NAME, "windows", windows)
    arguments.frames(NAME, frames, windows)
    layer = arguments.pooling(NAME, kernel_size, stride, padding, 1)
    check.flag(NAME, "ceil_mode", ceil_mode)
    check.flag(NAME, "count_include_pad", count_include_pad)
    if divisor_override is not None:
        arguments.whole_number(NAME, "divisor_override", divisor_override, minimum=1)
    out_frame = check.layer_output(NAME, "windows.frame", layer, windows.frame, ceil_mode)
    at = arguments.outputs_of(NAME, out_boxes, windows, layer, out_frame)
    out = op(
        windows.values, windows.boxes, windows.offsets, windows.image, frames, windows.frame,
        at.boxes, at.offsets, at.owner, at.cells, layer.kernel, layer.stride, layer.padding,
        count_include_pad, divisor_override, backend=backend,
    )  # fmt: skip
    return at.windows(out)


def _fake(*, values: Tensor, cells: int, **_: Any) -> Tensor:
    return values.new_empty(cells, values.shape[1])


def _guard(**args: Any) -> None:
    guards.windows(NAME, **args)
    guards.outputs(NAME, **args)


op = define(
    f"{NAME}(Tensor values, Tensor boxes, Tensor offsets, Tensor image, Tensor? frames, SymInt[2] frame,"
    " Tensor out_boxes, Tensor out_offsets, Tensor owner, SymInt cells, int[2] kernel_size, int[2] stride,"
    " int[2] padding, bool count_include_pad, int? divisor_override) -> Tensor",
    fake=_fake,
    backward=no_gradient(NAME),
    guard=_guard,
)
op.reference(reference.window_avg_pool2d)
op.native("cpp", (torch.float32, torch.float64, torch.bfloat16))
op.native("cuda", (torch.float32, torch.float16, torch.bfloat16))
op.triton((torch.float32, torch.float16, torch.bfloat16))

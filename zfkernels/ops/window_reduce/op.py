"""``window_reduce``: schema, fake kernel, refusal of gradients, variants and the public function."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from zfkernels.ops import _checks as check
from zfkernels.ops import _window_arguments as arguments
from zfkernels.ops import _window_guards as guards
from zfkernels.ops._registry import define, no_gradient
from zfkernels.ops.window_reduce import reference
from zfkernels.windows import Windows

NAME = "window_reduce"
HOW = ("sum", "max")


def window_reduce(
    windows: Windows,
    frames: Tensor | None,  # [N, C, H, W]
    how: str = "sum",
    *,
    backend: str | None = None,
) -> Tensor:
    """The sum or the maximum over a whole frame, for each window with its cells in place of the frame's.

    In a fixed order: the same arguments give the same bytes. A NaN goes before all numbers.

    Args:
        windows: P windows of the layer, values [cells, C].
        frames: [N, C, H, W], the layer around the windows, one frame for each image; None: zeros around them.
        how: "sum" or "max".
        backend: variant asked for by name; None chooses by device.

    Returns:
        [P, C] of ``windows``' dtype; float16 and bfloat16 are summed in float32. Not differentiable, and says so.

    Raises:
        TypeError: wrong type or dtype.
        ValueError: wrong shape or device; on a CPU also boxes outside the frame, offsets that do not fit them, and
            images that ``frames`` does not have.
        BackendError: ``backend`` cannot run here.
    """
    windows = arguments.windows(NAME, "windows", windows)
    arguments.frames(NAME, frames, windows)
    check.choice(NAME, "how", how, HOW)
    return op(
        windows.values, windows.boxes, windows.offsets, windows.image, frames, windows.frame, how, backend=backend
    )


def _fake(*, values: Tensor, boxes: Tensor, **_: Any) -> Tensor:
    return values.new_empty(boxes.shape[0], values.shape[1])


def _guard(**args: Any) -> None:
    guards.windows(NAME, **args)


op = define(
    f"{NAME}(Tensor values, Tensor boxes, Tensor offsets, Tensor image, Tensor? frames, SymInt[2] frame,"
    " str how) -> Tensor",
    fake=_fake,
    backward=no_gradient(NAME),
    guard=_guard,
    flags={"how": "max"},
)
op.reference(reference.window_reduce)
op.native("cpp", (torch.float32, torch.float64, torch.bfloat16))
op.native("cuda", (torch.float32, torch.float16, torch.bfloat16))
op.triton((torch.float32, torch.float16, torch.bfloat16))

"""``window_unpool_relu_conv_transpose2d``: the stage on windows as a registered op, and its variants."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from zfkernels.ops import _checks as check
from zfkernels.ops import _window_guards as guards
from zfkernels.ops._registry import define, no_gradient
from zfkernels.ops.unpool_relu_conv_transpose2d.stage import too_much_to_unroll
from zfkernels.ops.window_unpool_relu_conv_transpose2d import reference

NAME = "window_unpool_relu_conv_transpose2d"


def _fake(*, values: Tensor, weight: Tensor, cells: int, groups: int, **_: Any) -> Tensor:
    return values.new_empty(cells, weight.shape[1] * groups)


def _guard(*, values: Any, frame: Any, switches: Any, weight: Any, groups: int, **args: Any) -> None:
    guards.windows(NAME, values=values, frame=frame, **args)
    check.tensor(NAME, "weight", weight, "[C, C_in / groups, kh, kw]")
    check.same(NAME, "weight", weight, "values", values)
    check.equal(NAME, "weight's first dimension, the channels of values,", weight.shape[0], values.shape[1])
    check.divisor(NAME, groups, weight.shape[0])
    if switches is not None:
        check.switches(NAME, switches)
        check.equal(NAME, "switches' channels and size", tuple(switches.shape[1:]), (values.shape[1], *frame))
    guards.outputs(NAME, **args)


def _flops(*, values: Any, weight: Any, **_: Any) -> int:
    """Each value meets each tap of each output map; zeros, those of unpooling too, and frames are no work."""
    return 2 * math.prod(values) * math.prod(weight[1:])


op = define(
    f"{NAME}(Tensor values, Tensor boxes, Tensor offsets, Tensor image, Tensor? frames, SymInt[2] frame,"
    " Tensor? switches, Tensor weight, Tensor out_boxes, Tensor out_offsets, Tensor owner, SymInt cells,"
    " int[2] pool_kernel_size, int[2] pool_stride, int[2] pool_padding, int[2] pool_dilation, SymInt[2] unpooled_size,"
    " int[2] stride, int[2] padding, int[2] dilation, int groups, str overlap, bool rectify) -> Tensor",
    fake=_fake,
    backward=no_gradient(NAME),
    guard=_guard,
    flops=_flops,
    flags={"overlap": "sum"},
)
op.reference(reference.window_unpool_relu_conv_transpose2d)


def _refuses_frames(*, frames: Any, **_: Any) -> str | None:
    """The compiled kernels know zeros around windows only."""
    return None if frames is None else "it takes windows with zeros around them, got frames"


op.native("cpp", (torch.float32, torch.float64), _refuses_frames)
op.native("cuda", (torch.float32, torch.float16, torch.bfloat16), _refuses_frames)
op.triton((torch.float32, torch.float16, torch.bfloat16), too_much_to_unroll)  # as the kernel of whole maps
# By static figures that no one has measured: benchmarks/gpu_static_report.md, "Triton or CUDA".
op.prefer("cuda", "triton", "cuda", "reference")

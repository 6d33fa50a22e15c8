"""``window_unpool_relu_conv_transpose2d``: the stage on windows as a registered op, and its variants."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from zfkernels.ops import _checks as check
from zfkernels.ops import _window_guards as guards
from zfkernels.ops._library import define, no_gradient
from zfkernels.ops.unpool_relu_conv_transpose2d.stage import too_much_to_unroll
from zfkernels.ops.window_unpool_relu_conv_transpose2d import reference

NAME = "window_unpool_relu_conv_transpose2d"


def _fake(values: Tensor, *args: Any) -> Tensor:
    weight, cells, groups = args[6], args[10], args[19]
    return values.new_empty(cells, weight.shape[1] * groups)


def _guard(values: Any, boxes: Any, offsets: Any, image: Any, frames: Any, frame: Any, *args: Any) -> None:
    switches, weight, *out = args[:6]
    guards.places(NAME, values, boxes, offsets, image)
    guards.frames(NAME, frames, values, frame)
    check.tensor(NAME, "weight", weight, "[C, C_in / groups, kh, kw]")
    check.same(NAME, "weight", weight, "values", values)
    check.equal(NAME, "weight's first dimension, the channels of values,", weight.shape[0], values.shape[1])
    check.divisor(NAME, args[14], weight.shape[0])
    if switches is not None:
        check.switches(NAME, switches)
        check.equal(NAME, "switches' channels and size", tuple(switches.shape[1:]), (values.shape[1], *frame))
    guards.outputs(NAME, image, *out)


def _flops(*args: Any) -> int:
    """Each value meets each tap of each output map; zeros, those of unpooling too, and frames are no work."""
    values, weight = args[0], args[7]
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
)
op.reference(reference.window_unpool_relu_conv_transpose2d)


def _refuses_frames(*args: Any) -> str | None:
    """The compiled kernels know zeros around windows only."""
    return None if args[4] is None else "it takes windows with zeros around them, got frames"


op.encode = lambda *args: (*args[:-2], args[-2] == "sum", args[-1])  # of overlap and rectify
op.native("cpp", (torch.float32, torch.float64), _refuses_frames)
op.native("cuda", (torch.float32, torch.float16, torch.bfloat16), _refuses_frames)


def _too_much_for_triton(*args: Any) -> str | None:
    """The kernel unrolls as that of whole maps."""
    switches, weight, pool_stride, stride, dilation = args[6], args[7], args[13], args[17], args[19]
    return too_much_to_unroll(switches, weight, pool_stride, stride, dilation)


op.triton((torch.float32, torch.float16, torch.bfloat16), _too_much_for_triton)
# By static figures that no one has measured: benchmarks/gpu_static_report.md, "Triton or CUDA".
op.prefer("cuda", "triton", "cuda", "reference")

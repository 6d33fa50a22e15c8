"""``unpool_relu_conv_transpose2d`` on ragged windows: schema, fake kernel, refusal of gradients, public function."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from zfkernels.geometry import Boxes, Pair, inputs_read
from zfkernels.ops import _checks as check
from zfkernels.ops._library import define, no_gradient
from zfkernels.ops.max_unpool2d_with_switches.op import OVERLAP
from zfkernels.ops.ragged import _arguments as arguments
from zfkernels.ops.ragged import _guards as guards
from zfkernels.ops.ragged.unpool_relu_conv_transpose2d import reference
from zfkernels.ops.unpool_relu_conv_transpose2d.op import check_switches, stage, too_much_to_unroll
from zfkernels.ragged import Layout, Windows

NAME = "unpool_relu_conv_transpose2d"


def unpool_relu_conv_transpose2d(
    values: Windows,
    switches: Tensor | None,  # uint8 [N, C, Hp, Wp]
    weight: Tensor,  # [C, C_in / groups, kh, kw]
    frames: Tensor | None = None,  # [N, C, Hp, Wp]
    *,
    pool_kernel_size: int | Pair | None = None,
    pool_stride: int | Pair | None = None,
    pool_padding: int | Pair = 0,
    pool_dilation: int | Pair = 1,
    unpooled_size: Pair | None = None,
    stride: int | Pair = 1,
    padding: int | Pair = 0,
    dilation: int | Pair = 1,
    groups: int = 1,
    output_size: Pair | None = None,
    out_boxes: Tensor | Layout | None = None,
    overlap: str = "sum",
    rectify: bool = True,
    backend: str | None = None,
) -> Windows:
    """One stage of a DeconvNet on windows: unpool with switches, rectify, filter with the transposed filters.

    In this order: values that land on one pixel are combined (``"sum"``; or ``"last"``: the last pooling window in
    row-major order wins, zeros and negatives included, also windows outside a crop), then each unpooled pixel is
    rectified, then filtered. No bias takes part.

    Source: Zeiler & Fergus 2013 (arXiv 1311.2901), section 2.1, figure 1.
    Differs from the paper: the rule for overlapping pooling windows, on which the paper is silent.

    Args:
        values: P windows of the pooled maps, values [cells, C].
        switches: uint8 [N, C, Hp, Wp], the full maps of every image; None: no unpooling. A switch that points outside
            the unpooled map or its own pooling window is ignored.
        weight: the *forward* convolution's, [C, C_in / groups, kh, kw], C the channels of ``values``.
        frames: [N, C, Hp, Wp], the pooled maps around the windows, one for each image; None: zeros around them.
        pool_kernel_size: the pooling's geometry, required with ``switches``; so are the three that follow.
        pool_stride: defaults to ``pool_kernel_size``.
        pool_padding: in cells.
        pool_dilation: in cells.
        unpooled_size: (H, W) of the pooling's input; by default what ``output_size`` implies, else the smallest.
        stride: the forward convolution's, as are ``padding``, ``dilation`` and ``groups``.
        padding: in cells.
        dilation: in cells.
        groups: number of groups.
        output_size: (H, W) of the forward convolution's input; the smallest by default.
        out_boxes: which cells of the result: int32 [P, 4] (top, left, height, width), or a Layout of it, with which no
            tensor is read on the host; None: exactly the cells that each window can reach.
        overlap: ``"sum"`` or ``"last"``.
        rectify: apply the ReLU.
        backend: variant asked for by name; None chooses by device.

    Returns:
        P windows in the frame ``output_size``, values [cells', C_in] of ``values``' dtype. Not differentiable, and
        says so.

    Raises:
        TypeError: wrong type or dtype.
        ValueError: wrong shape, device or geometry; on a CPU also boxes outside the frame, offsets that do not fit
            them, and images that ``frames`` or ``switches`` do not have.
        BackendError: ``backend`` cannot run here.
    """
    windows = arguments.windows(NAME, "values", values)
    arguments.frames(NAME, frames, windows, "values")
    check.tensor(NAME, "weight", weight, "[C, C_in / groups, kh, kw]")
    check.same(NAME, "weight", weight, "values", windows.values)
    check.choice(NAME, "overlap", overlap, OVERLAP)
    channels = windows.values.shape[1]
    check.equal(NAME, "weight's first dimension, the channels of values,", weight.shape[0], channels)
    check.divisor(NAME, groups, weight.shape[0])
    check.flag(NAME, "rectify", rectify)
    conv = check.convolution(NAME, weight, stride, padding, dilation)
    if switches is not None:
        images = switches.shape[0] if isinstance(switches, Tensor) and switches.dim() else 0
        check_switches(NAME, switches, windows.values, (images, channels, *windows.frame))
        arguments.enough_images(NAME, "values.image", windows.images, "switches", switches)
    pool, unpooled, frame = stage(
        NAME, conv, windows.frame, switches is not None, pool_kernel_size, pool_stride, pool_padding, pool_dilation,
        unpooled_size, output_size,
    )  # fmt: skip
    at = arguments.outputs(
        NAME, out_boxes, lambda: inputs_read(inputs_read(Boxes.of(windows.boxes), pool, unpooled), conv, frame),
        windows.values, windows.image, windows.images, frame,
    )  # fmt: skip
    out = op(
        windows.values, windows.boxes, windows.offsets, windows.image, frames, windows.frame, switches, weight,
        at.boxes, at.offsets, at.owner, at.cells, pool.kernel, pool.stride, pool.padding, pool.dilation, unpooled,
        conv.stride, conv.padding, conv.dilation, groups, overlap, rectify, backend=backend,
    )  # fmt: skip
    return at.windows(out)


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
    f"ragged_{NAME}(Tensor values, Tensor boxes, Tensor offsets, Tensor image, Tensor? frames, SymInt[2] frame,"
    " Tensor? switches, Tensor weight, Tensor out_boxes, Tensor out_offsets, Tensor owner, SymInt cells,"
    " int[2] pool_kernel_size, int[2] pool_stride, int[2] pool_padding, int[2] pool_dilation, SymInt[2] unpooled_size,"
    " int[2] stride, int[2] padding, int[2] dilation, int groups, str overlap, bool rectify) -> Tensor",
    fake=_fake,
    backward=no_gradient(NAME),
    guard=_guard,
    flops=_flops,
)
op.reference(reference.ragged_unpool_relu_conv_transpose2d)


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

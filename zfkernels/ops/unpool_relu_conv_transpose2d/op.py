"""``unpool_relu_conv_transpose2d``: schema, fake kernel, autograd formula, variants and the public function."""

from __future__ import annotations

import math
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn.grad import conv2d_input, conv2d_weight

from zfkernels.geometry import Boxes, Pair, Sliding, inputs_read
from zfkernels.ops import _checks as check
from zfkernels.ops import _window_arguments as arguments
from zfkernels.ops._allocation import empty_like_format
from zfkernels.ops._registry import define
from zfkernels.ops.max_pool2d_with_switches.op import check_unpooled_size, pooling
from zfkernels.ops.max_unpool2d_with_switches.op import OVERLAP, gather_at_switches
from zfkernels.ops.unpool_relu_conv_transpose2d import reference
from zfkernels.ops.unpool_relu_conv_transpose2d.stage import check_switches, stage, too_much_to_unroll
from zfkernels.ops.window_unpool_relu_conv_transpose2d.op import op as on_windows
from zfkernels.windows import Layout, Windows

NAME = "unpool_relu_conv_transpose2d"
Maps = TypeVar("Maps", Tensor, Windows)


def unpool_relu_conv_transpose2d(
    values: Maps,  # [N, C, Hp, Wp]
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
) -> Maps:
    """One stage of a DeconvNet: unpool with switches, rectify, filter with the transposed filters.

    In this order: values that land on one pixel are combined (``"sum"``; or ``"last"``: the last pooling window in
    row-major order wins, zeros and negatives included, also windows outside a crop), then each unpooled pixel is
    rectified, then filtered. No bias takes part.

    A value that is NaN or infinite reaches the outputs that its filter reaches; with ``stride`` above 1 the ``triton``
    variant may make the rest of the block of ``stride`` outputs at the filter's edge NaN, too.

    Source: Zeiler & Fergus 2013 (arXiv 1311.2901), section 2.1, figure 1.
    Differs from the paper: the rule for overlapping pooling windows, on which the paper is silent.

    Args:
        values: [N, C, Hp, Wp], float16, bfloat16, float32 or float64; or P windows of such maps, values [cells, C].
        switches: uint8 [N, C, Hp, Wp], the full maps of every image also for windows; None: no unpooling. A switch
            that points outside the unpooled map or its own pooling window is ignored.
        weight: the *forward* convolution's, [C, C_in / groups, kh, kw], C the channels of ``values``.
        frames: windows only: [N, C, Hp, Wp], the pooled maps around the windows, one for each image; None: zeros.
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
        out_boxes: windows only: which cells of the result: int32 [P, 4] (top, left, height, width), or a Layout of it,
            with which no tensor is read on the host; None: exactly the cells that each window can reach.
        overlap: ``"sum"`` or ``"last"``.
        rectify: apply the ReLU.
        backend: variant asked for by name; None chooses by device.

    Returns:
        [N, C_in, H, W] of ``values``' dtype, differentiable in ``values`` and ``weight``; or P windows in the frame
        ``output_size``, values [cells', C_in], not differentiable, and they say so.

    Raises:
        TypeError: wrong type or dtype.
        ValueError: wrong shape, device or geometry; of windows on a CPU also boxes outside the frame, offsets that do
            not fit them, and images that ``frames`` or ``switches`` do not have.
        BackendError: ``backend`` cannot run here.
    """
    windows = arguments.windows(NAME, "values", values) if isinstance(values, Windows) else None
    pooled: Pair
    if windows is not None:
        arguments.frames(NAME, frames, windows, "values")
        maps, pooled = windows.values, windows.frame
    elif frames is not None or out_boxes is not None:
        raise ValueError(f"{NAME}: expected frames and out_boxes with Windows only, got values [N, C, Hp, Wp]")
    else:
        maps = check.tensor(NAME, "values", values, "[N, C, Hp, Wp]")
        pooled = (maps.shape[2], maps.shape[3])
    check.tensor(NAME, "weight", weight, "[C, C_in / groups, kh, kw]")
    check.same(NAME, "weight", weight, "values", maps)
    check.choice(NAME, "overlap", overlap, OVERLAP)
    check.equal(NAME, "weight's first dimension, the channels of values,", weight.shape[0], maps.shape[1])
    check.divisor(NAME, groups, weight.shape[0])
    check.flag(NAME, "rectify", rectify)
    conv = check.convolution(NAME, weight, stride, padding, dilation)
    if switches is not None:
        images = maps.shape[0]
        if windows is not None:
            images = switches.shape[0] if isinstance(switches, Tensor) and switches.dim() else 0
        check_switches(NAME, switches, maps, (images, maps.shape[1], *pooled))
    pool, unpooled, frame = stage(
        NAME, conv, pooled, switches is not None, pool_kernel_size, pool_stride, pool_padding, pool_dilation,
        unpooled_size, output_size,
    )  # fmt: skip
    geometry = (
        pool.kernel, pool.stride, pool.padding, pool.dilation, unpooled,
        conv.stride, conv.padding, conv.dilation, groups,
    )  # fmt: skip
    if windows is None:
        return op(maps, switches, weight, *geometry, frame, overlap, rectify, backend=backend)

    if switches is not None:
        arguments.enough_images(NAME, "values.image", windows.images, "switches", switches)
    boxes = windows.boxes
    at = arguments.outputs(
        NAME, out_boxes, lambda: inputs_read(inputs_read(Boxes.of(boxes), pool, unpooled), conv, frame),
        maps, windows.image, windows.images, frame,
    )  # fmt: skip
    out = on_windows(
        maps, boxes, windows.offsets, windows.image, frames, pooled, switches, weight,
        at.boxes, at.offsets, at.owner, at.cells, *geometry, overlap, rectify, backend=backend,
    )  # fmt: skip
    result: Any = at.windows(out)
    return result


def _fake(*, values: Tensor, weight: Tensor, groups: int, output_size: Pair, **_: Any) -> Tensor:
    return empty_like_format(values, (values.shape[0], weight.shape[1] * groups, *output_size))


def _setup_context(ctx: Any, inputs: Any, keyword_only_inputs: Any, output: Any) -> None:
    values, switches, weight, *pool, unpooled, stride, padding, dilation, groups, _, overlap, rect = inputs
    ctx.pool, ctx.conv = Sliding(*pool), Sliding((weight.shape[2], weight.shape[3]), stride, padding, dilation)
    ctx.rest = (unpooled, groups, overlap, rect)
    ctx.save_for_backward(values, switches, weight)


def _backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    values, switches, weight = ctx.saved_tensors
    unpooled_size, groups, overlap, rectify = ctx.rest
    conv, grad_values, grad_weight = ctx.conv, None, None
    unpooled = values
    if switches is not None:
        pool = (ctx.pool.kernel, ctx.pool.stride, ctx.pool.padding, ctx.pool.dilation)
        unpooled = torch.ops.zfkernels.max_unpool2d_with_switches(values, switches, *pool, unpooled_size, overlap)
    if ctx.needs_input_grad[0]:
        grad_values = torch.nn.functional.conv2d(grad, weight, None, conv.stride, conv.padding, conv.dilation, groups)
        if rectify:
            grad_values = torch.where(unpooled > 0, grad_values, 0)
        if switches is not None:
            grad_values = gather_at_switches(grad_values, switches, ctx.pool, overlap)
    if ctx.needs_input_grad[2]:
        rectified = reference.rectified(unpooled, rectify)
        grad_weight = conv2d_weight(grad, weight.shape, rectified, conv.stride, conv.padding, conv.dilation, groups)
    return grad_values, None, grad_weight, *[None] * 12


def _tangent(args: Any, tangents: Any, output: Tensor) -> Tensor:
    """By the product rule: what passes the rectifier is linear in the values and in the weight."""
    values, switches, weight, *pool, unpooled_size, stride, padding, dilation, groups, size, how, rect = args

    def unpool(maps: Tensor) -> Tensor:
        if switches is None:
            return maps
        return torch.ops.zfkernels.max_unpool2d_with_switches(maps, switches, *pool, unpooled_size, how)

    def filtered(maps: Tensor, by: Tensor) -> Tensor:
        frame = (maps.shape[0], by.shape[1] * groups, *size)
        return conv2d_input(frame, by, maps, stride, padding, dilation, groups)

    unpooled, parts = unpool(values), []
    if tangents[0] is not None:
        change = unpool(tangents[0])
        parts.append(filtered(torch.where(unpooled > 0, change, 0) if rect else change, weight))
    if tangents[2] is not None:
        parts.append(filtered(reference.rectified(unpooled, rect), tangents[2]))
    return sum(parts[1:], parts[0])


def _guard(
    *, values: Tensor, switches: Tensor | None, weight: Tensor, pool_kernel_size: Pair, pool_stride: Pair,
    pool_padding: Pair, pool_dilation: Pair, unpooled_size: Pair, stride: Pair, padding: Pair, dilation: Pair,
    groups: int, output_size: Pair, **_: Any,
) -> None:  # fmt: skip
    pool = Sliding(pool_kernel_size, pool_stride, pool_padding, pool_dilation)
    conv = Sliding((weight.shape[2], weight.shape[3]), stride, padding, dilation)
    check.tensor(NAME, "values", values, "[N, C, Hp, Wp]")
    check.tensor(NAME, "weight", weight, "[C, C_in / groups, kh, kw]")
    check.same(NAME, "weight", weight, "values", values)
    check.equal(NAME, "weight's first dimension, the channels of values,", weight.shape[0], values.shape[1])
    check.divisor(NAME, groups, weight.shape[0])
    if switches is not None:
        check_switches(NAME, switches, values, tuple(values.shape))
        pooling(NAME, pool.kernel, pool.stride, pool.padding, pool.dilation, "pool_")
        check_unpooled_size(NAME, "unpooled_size", unpooled_size, (values.shape[2], values.shape[3]), pool)
    else:
        check.equal(NAME, "unpooled_size without switches", tuple(unpooled_size), tuple(values.shape[2:]))
    made = conv.output_size(output_size)
    check.equal(NAME, "what the convolution makes of output_size,", made, tuple(unpooled_size))


def _flops(*, values: Any, weight: Any, **_: Any) -> int:
    """Each value meets each tap of each output map; the zeros around unpooled values are no work."""
    return 2 * math.prod(values) * math.prod(weight[1:])


op = define(
    f"{NAME}(Tensor values, Tensor? switches, Tensor weight, int[2] pool_kernel_size,"
    " int[2] pool_stride, int[2] pool_padding, int[2] pool_dilation, SymInt[2] unpooled_size,"
    " int[2] stride, int[2] padding, int[2] dilation, int groups, SymInt[2] output_size, str overlap, bool rectify)"
    " -> Tensor",
    fake=_fake,
    backward=_backward,
    setup_context=_setup_context,
    tangent=_tangent,
    guard=_guard,
    flops=_flops,
    flags={"overlap": "sum"},
)
op.reference(reference.unpool_relu_conv_transpose2d)
op.native("cpp", (torch.float32, torch.float64))
op.native("cuda", (torch.float32, torch.float16, torch.bfloat16))
op.triton((torch.float32, torch.float16, torch.bfloat16), too_much_to_unroll)
# By static figures that no one has measured: benchmarks/gpu_static_report.md, "Triton or CUDA".
op.prefer("cuda", "triton", "cuda", "reference")

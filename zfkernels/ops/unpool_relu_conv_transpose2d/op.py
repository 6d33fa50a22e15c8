"""``unpool_relu_conv_transpose2d``: schema, fake kernel, autograd formula, variants and the public function."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn.grad import conv2d_input, conv2d_weight

from zfkernels.ops import _checks as check
from zfkernels.ops._library import define
from zfkernels.ops.max_pool2d_with_switches.op import check_unpooled_size, pooling
from zfkernels.ops.max_unpool2d_with_switches.op import OVERLAP, gather_at_switches
from zfkernels.ops.unpool_relu_conv_transpose2d import reference
from zfkernels.windows import Pair, Sliding, Windows, per_axis, place

NAME = "unpool_relu_conv_transpose2d"
NO_POOL = Sliding((1, 1))


def unpool_relu_conv_transpose2d(
    values: Tensor | Windows,  # [N, C, Hp, Wp]
    switches: Tensor | None,  # uint8 [N, C, Hp, Wp]
    weight: Tensor,  # [C, C_in / groups, kh, kw]
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
    out_size: Pair | None = None,
    out_origins: Tensor | None = None,
    overlap: str = "sum",
    rectify: bool = True,
    backend: str | None = None,
) -> Tensor | Windows:
    """One stage of a DeconvNet: unpool with switches, rectify, filter with the transposed filters.

    In this order: values that land on one pixel are combined (``"sum"``; or ``"last"``: the last pooling window in
    row-major order wins, zeros and negatives included, also windows outside a crop), then each unpooled pixel is
    rectified, then filtered. No bias takes part.

    A value that is NaN or infinite reaches the outputs that its filter reaches; with ``stride`` above 1 the ``triton``
    variant may make the rest of the block of ``stride`` outputs at the filter's edge NaN, too.

    Source: Zeiler & Fergus 2013 (arXiv 1311.2901), section 2.1, figure 1.
    Differs from the paper: the rule for overlapping pooling windows, on which the paper is silent.

    Args:
        values: [N, C, Hp, Wp], float16, bfloat16, float32 or float64; or Windows [P, C, h, w] of such maps.
        switches: uint8 [N, C, Hp, Wp], the full maps of every image also for windows; None: no unpooling. A switch
            that points outside the unpooled map or its own pooling window is ignored.
        weight: the *forward* convolution's, [C, C_in / groups, kh, kw], C the channels of ``values``.
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
        out_size: windows only: (h, w) of the resulting windows, at least what they can reach (the default).
        out_origins: windows only: int32 [P, 2], where they lie; by default the first cell that they can reach.
        overlap: ``"sum"`` or ``"last"``.
        rectify: apply the ReLU.
        backend: variant asked for by name; None chooses by device.

    Returns:
        [N, C_in, H, W] of ``values``' dtype, or Windows [P, C_in, h', w'] in the frame ``output_size``. The tensor form
        is differentiable in ``values`` and ``weight``; windows are not, and say so.

    Raises:
        TypeError: wrong type or dtype.
        ValueError: wrong shape, device or geometry.
        BackendError: ``backend`` cannot run here.
    """
    windows = values if isinstance(values, Windows) else None
    if windows:
        check.windows(NAME, "values", windows)
    elif out_size is not None or out_origins is not None:
        raise ValueError(f"{NAME}: expected out_size and out_origins with Windows only, got values [N, C, Hp, Wp]")
    maps = windows.values if windows else check.tensor(NAME, "values", values, "[N, C, Hp, Wp]")
    check.tensor(NAME, "weight", weight, "[C, C_in / groups, kh, kw]")
    check.same(NAME, "weight", weight, "values", maps)
    check.choice(NAME, "overlap", overlap, OVERLAP)
    check.equal(NAME, "weight's first dimension, the channels of values,", weight.shape[0], maps.shape[1])
    check.divisor(NAME, groups, weight.shape[0])
    check.flag(NAME, "rectify", rectify)
    conv = check.convolution(NAME, weight, stride, padding, dilation)
    pooled = windows.frame if windows else (maps.shape[2], maps.shape[3])

    if switches is not None:
        images = switches.shape[0] if windows else maps.shape[0]
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
        return op(maps, switches, weight, None, None, None, *geometry, frame, overlap, rectify, backend=backend)

    reach = conv.span(pool.span(windows.size))
    size = check.window_size(NAME, out_size, reach, frame)
    if out_origins is None:
        lo = windows.origins
        for layer in (pool, conv):
            lo = lo * per_axis(lo, layer.stride) - per_axis(lo, layer.padding)
        out_origins = place(lo, size, frame)
    else:
        check.per_window(NAME, "out_origins", out_origins, "[P, 2]", (torch.int32,), "the windows", windows.origins)
    out = op(
        maps, switches, weight, windows.origins, windows.image, out_origins, *geometry, size, overlap, rectify,
        backend=backend,
    )  # fmt: skip
    return Windows(out, out_origins, windows.image, frame)


def check_switches(op: str, switches: Any, values: Tensor, shape: tuple[int, ...]) -> None:
    """Full maps of switches, of this shape."""
    check.switches(op, switches)
    check.same(op, "switches", switches, "values", values, dtype=False)
    check.equal(op, "switches' shape", tuple(switches.shape), shape)


def stage(
    op: str, conv: Sliding, pooled: Pair, has_switches: bool, pool_kernel_size: Any, pool_stride: Any,
    pool_padding: Any, pool_dilation: Any, unpooled_size: Any, output_size: Any,
) -> tuple[Sliding, Pair, Pair]:  # fmt: skip
    """The geometry of a stage on maps of size ``pooled``: the pooling, the unpooled size and the size of the result."""
    if not has_switches:
        if pool_kernel_size is not None or unpooled_size is not None:
            raise ValueError(f"{op}: expected switches with pool_kernel_size and unpooled_size, got None")
        pool, unpooled = NO_POOL, pooled
    else:
        if pool_kernel_size is None:
            raise ValueError(f"{op}: expected pool_kernel_size with switches, got None")
        pool = pooling(op, pool_kernel_size, pool_stride, pool_padding, pool_dilation, "pool_")
        if unpooled_size is not None:
            unpooled = check.pair(op, "unpooled_size", unpooled_size, minimum=1)
        elif output_size is not None:
            unpooled = conv.output_size(check.pair(op, "output_size", output_size, minimum=1))
        else:
            unpooled = _smallest(pool, pooled)
        check_unpooled_size(op, "unpooled_size", unpooled, pooled, pool)
    frame = _smallest(conv, unpooled)
    if output_size is not None:
        frame = check.pair(op, "output_size", output_size, minimum=1)
    if min(frame) < 1 or conv.output_size(frame) != unpooled:
        raise ValueError(
            f"{op}: expected output_size one that the convolution {conv} turns into {unpooled}, got {frame}"
        )
    return pool, unpooled, frame


def _smallest(layer: Sliding, size: Pair) -> Pair:
    """The smallest input that ``layer`` turns into ``size``."""
    span = layer.span(size)
    return span[0] - 2 * layer.padding[0], span[1] - 2 * layer.padding[1]


def _fake(values: Tensor, switches: Any, weight: Tensor, origins: Any, *args: Any) -> Tensor:
    groups, size = args[10], args[11]
    shape = (values.shape[0], weight.shape[1] * groups, *size)
    return check.empty_channels_last(values, shape) if origins is not None else check.empty_like_format(values, shape)


def _setup_context(ctx: Any, inputs: Any, keyword_only_inputs: Any, output: Any) -> None:
    values, switches, weight, origins, _, _, *pool, unpooled, stride, padding, dilation, groups, _, overlap, rect = (
        inputs
    )
    ctx.windowed = origins is not None
    ctx.pool, ctx.conv = Sliding(*pool), Sliding((weight.shape[2], weight.shape[3]), stride, padding, dilation)
    ctx.rest = (unpooled, groups, overlap, rect)
    ctx.save_for_backward(values, switches, weight)


def _backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    if ctx.windowed:
        raise RuntimeError(f"{NAME}: windows have no gradient; expected values a tensor of full maps to differentiate")
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
    return grad_values, None, grad_weight, *[None] * 15


def _tangent(args: Any, tangents: Any, output: Tensor) -> Tensor:
    """By the product rule: what passes the rectifier is linear in the values and in the weight."""
    values, switches, weight, origins = args[:4]
    *pool, unpooled_size, stride, padding, dilation, groups, size, how, rect = args[6:]
    if origins is not None:
        raise RuntimeError(f"{NAME}: windows have no tangent; expected values a tensor of full maps to differentiate")

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


def _guard(values: Tensor, switches: Tensor | None, weight: Tensor, origins: Tensor | None, *args: Any) -> None:
    if origins is not None:
        return  # the kernels check windows themselves
    pool, unpooled = Sliding(*args[2:6]), args[6]
    conv = Sliding((weight.shape[2], weight.shape[3]), *args[7:10])
    check.tensor(NAME, "values", values, "[N, C, Hp, Wp]")
    check.tensor(NAME, "weight", weight, "[C, C_in / groups, kh, kw]")
    check.same(NAME, "weight", weight, "values", values)
    check.equal(NAME, "weight's first dimension, the channels of values,", weight.shape[0], values.shape[1])
    check.divisor(NAME, args[10], weight.shape[0])
    if switches is not None:
        check_switches(NAME, switches, values, tuple(values.shape))
        pooling(NAME, pool.kernel, pool.stride, pool.padding, pool.dilation, "pool_")
        check_unpooled_size(NAME, "unpooled_size", unpooled, (values.shape[2], values.shape[3]), pool)
    else:
        check.equal(NAME, "unpooled_size without switches", tuple(unpooled), tuple(values.shape[2:]))
    check.equal(NAME, "what the convolution makes of output_size,", conv.output_size(args[11]), tuple(unpooled))


def _flops(values: Any, switches: Any, weight: Any, *args: Any) -> int:
    """Each value meets each tap of each output map; the zeros around unpooled values are no work."""
    return 2 * math.prod(values) * math.prod(weight[1:])


def _too_much_for_triton(values: Tensor, switches: Tensor | None, weight: Tensor, *rest: Any) -> str | None:
    return too_much_to_unroll(switches, weight, rest[4], rest[8], rest[10])


def too_much_to_unroll(
    switches: Tensor | None, weight: Tensor, pool_stride: Pair, stride: Pair, dilation: Pair
) -> str | None:
    """Why the Triton kernels cannot unroll the lattices of the pooling and the taps of a phase; None: they can."""
    steps = [stride[axis] // math.gcd(stride[axis], dilation[axis]) for axis in (0, 1)]
    taps = -(-weight.shape[2] // steps[0]) * -(-weight.shape[3] // steps[1])
    if switches is not None and pool_stride[0] * pool_stride[1] > 16:
        return f"it takes poolings whose strides have a product of at most 16, got {tuple(pool_stride)}"
    if taps > 64:
        return f"it takes at most 64 taps for each phase of the stride, got {taps}"
    return None


op = define(
    f"{NAME}(Tensor values, Tensor? switches, Tensor weight, Tensor? origins, Tensor? image, Tensor? out_origins,"
    " int[2] pool_kernel_size, int[2] pool_stride, int[2] pool_padding, int[2] pool_dilation, SymInt[2] unpooled_size,"
    " int[2] stride, int[2] padding, int[2] dilation, int groups, SymInt[2] output_size, str overlap, bool rectify)"
    " -> Tensor",
    fake=_fake,
    backward=_backward,
    setup_context=_setup_context,
    tangent=_tangent,
    guard=_guard,
    flops=_flops,
)
op.reference(reference.unpool_relu_conv_transpose2d)
op.encode = lambda *args: (*args[:-2], args[-2] == "sum", args[-1])  # of overlap and rectify
op.native("cpp", (torch.float32, torch.float64))
op.native("cuda", (torch.float32, torch.float16, torch.bfloat16))
op.triton((torch.float32, torch.float16, torch.bfloat16), _too_much_for_triton)
# By static figures that no one has measured: benchmarks/gpu_static_report.md, "Triton or CUDA".
op.prefer("cuda", "triton", "cuda", "reference")

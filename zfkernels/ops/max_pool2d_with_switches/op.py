"""``max_pool2d_with_switches``: schema, fake kernel, autograd formula, variants and the public function."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from zfkernels.geometry import Pair, Sliding
from zfkernels.ops import _checks as check
from zfkernels.ops._allocation import empty_like_format
from zfkernels.ops._direct import only_a_kernel_runs
from zfkernels.ops._registry import define
from zfkernels.ops.max_pool2d_with_switches import reference

NAME = "max_pool2d_with_switches"


def pooling(op: str, kernel_size: Any, stride: Any, padding: Any, dilation: Any, prefix: str = "") -> Sliding:
    """The checked geometry of a pooling; ``stride=None`` is the kernel's size; ``prefix`` is for the messages."""
    kernel = check.pair(op, f"{prefix}kernel_size", kernel_size, minimum=1)
    layer = Sliding(
        kernel,
        kernel if stride is None else check.pair(op, f"{prefix}stride", stride, minimum=1),
        check.pair(op, f"{prefix}padding", padding, minimum=0),
        check.pair(op, f"{prefix}dilation", dilation, minimum=1),
    )
    if kernel[0] * kernel[1] > 256:
        raise ValueError(
            f"{op}: expected {prefix}kernel_size of at most 256 cells (a switch is one byte), got {kernel}"
        )
    if 2 * layer.padding[0] > kernel[0] or 2 * layer.padding[1] > kernel[1]:  # as F.max_pool2d, dilated or not
        raise ValueError(f"{op}: expected {prefix}padding at most half of the kernel {kernel}, got {layer.padding}")
    return layer


def check_unpooled_size(op: str, argument: str, size: Pair, pooled: Pair, layer: Sliding) -> None:
    """``size`` is one that the pooling turns into ``pooled``, with or without ``ceil_mode``."""
    given = layer.output_size(size), layer.output_size(size, ceil_mode=True)
    if min(size) < 1 or (pooled != given[0] and pooled != given[1]):  # ``in`` is wrong of symbolic sizes in torch 2.11
        raise ValueError(f"{op}: expected {argument} a size that the pooling {layer} turns into {pooled}, got {size}")


def max_pool2d_with_switches(
    input: Tensor,  # [N, C, H, W]
    kernel_size: int | Pair,
    stride: int | Pair | None = None,
    padding: int | Pair = 0,
    dilation: int | Pair = 1,
    *,
    ceil_mode: bool = False,
    backend: str | None = None,
) -> tuple[Tensor, Tensor]:
    """Max-pooling that returns the place of each maximum as one byte, the *switch*.

    ``switch = ky * kernel_width + kx`` of the maximum, counted in the unclipped window (padding included). Values and
    choice equal ``F.max_pool2d``'s to the bit: the first maximum in row-major order; of several NaNs the last.

    Source: Zeiler & Fergus 2013 (arXiv 1311.2901), section 2.1, figure 1.

    Args:
        input: [N, C, H, W], float16, bfloat16, float32 or float64.
        kernel_size: window, at most 256 cells.
        stride: defaults to ``kernel_size``.
        padding: at most half the kernel; padding never wins.
        dilation: distance of neighbouring cells of a window.
        ceil_mode: windows may hang over the bottom and right border.
        backend: variant asked for by name; None chooses by device.

    Returns:
        values [N, C, Hp, Wp] of ``input``'s dtype, switches uint8 [N, C, Hp, Wp]. Differentiable in ``input``.

    Raises:
        TypeError: wrong type or dtype.
        ValueError: wrong shape or geometry, more than 256 cells, an empty output.
        BackendError: ``backend`` cannot run here.
    """
    check.tensor(NAME, "input", input, "[N, C, H, W]")
    layer = _layer(input.shape, kernel_size, stride, padding, dilation, ceil_mode)
    return op(input, layer.kernel, layer.stride, layer.padding, layer.dilation, ceil_mode, backend=backend)


@check.remembered
def _layer(shape: torch.Size, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: Any) -> Sliding:
    layer = pooling(NAME, kernel_size, stride, padding, dilation)
    check.flag(NAME, "ceil_mode", ceil_mode)
    check.layer_output(NAME, "input", layer, (shape[2], shape[3]), ceil_mode)
    return layer


def switches_to_indices(
    switches: Tensor,  # uint8 [N, C, Hp, Wp]
    kernel_size: int | Pair,
    stride: int | Pair | None = None,
    padding: int | Pair = 0,
    dilation: int | Pair = 1,
    *,
    input_size: Pair,
) -> Tensor:
    """Switches as the flat int64 indices of ``F.max_pool2d``: ``row * W + column`` in the layer below.

    Args:
        switches: uint8 [N, C, Hp, Wp].
        kernel_size: the pooling's, as are ``stride``, ``padding`` and ``dilation``.
        stride: defaults to ``kernel_size``.
        padding: in cells.
        dilation: in cells.
        input_size: (H, W) of the layer below.

    Returns:
        int64 [N, C, Hp, Wp].

    Raises:
        TypeError, ValueError: a bad argument, named in one sentence.
    """
    name = "switches_to_indices"
    check.tensor(name, "switches", switches, "[N, C, Hp, Wp]", (torch.uint8,))
    layer = pooling(name, kernel_size, stride, padding, dilation)
    size = check.pair(name, "input_size", input_size, minimum=1)
    check_unpooled_size(name, "input_size", size, (switches.shape[2], switches.shape[3]), layer)
    return reference.switches_to_indices(switches, size[1], layer.kernel, layer.stride, layer.padding, layer.dilation)


def indices_to_switches(
    indices: Tensor,  # int64 [N, C, Hp, Wp]
    kernel_size: int | Pair,
    stride: int | Pair | None = None,
    padding: int | Pair = 0,
    dilation: int | Pair = 1,
    *,
    input_size: Pair,
) -> Tensor:
    """The flat int64 indices of ``F.max_pool2d`` as switches of one byte; the inverse of :func:`switches_to_indices`.

    Args:
        indices: int64 [N, C, Hp, Wp], each inside its own window; on a GPU the check waits for them.
        kernel_size: the pooling's, as are ``stride``, ``padding`` and ``dilation``.
        stride: defaults to ``kernel_size``.
        padding: in cells.
        dilation: in cells.
        input_size: (H, W) of the layer below.

    Returns:
        uint8 [N, C, Hp, Wp].

    Raises:
        TypeError, ValueError: a bad argument, named in one sentence.
    """
    name = "indices_to_switches"
    check.tensor(name, "indices", indices, "[N, C, Hp, Wp]", (torch.int64,))
    layer = pooling(name, kernel_size, stride, padding, dilation)
    size = check.pair(name, "input_size", input_size, minimum=1)
    check_unpooled_size(name, "input_size", size, (indices.shape[2], indices.shape[3]), layer)
    if only_a_kernel_runs((indices,)):  # there are numbers to look at
        inside = reference.in_their_windows(indices, size, layer.kernel, layer.stride, layer.padding, layer.dilation)
        if not inside.all():
            place = (~inside).nonzero()[0].tolist()
            wrong = int(indices[tuple(place)])
            raise ValueError(f"{name}: expected indices inside their own pooling windows, got {wrong} at {place}")
    return reference.indices_to_switches(indices, size[1], layer.kernel, layer.stride, layer.padding, layer.dilation)


def _fake(*, input: Tensor, ceil_mode: bool, **layer: Any) -> Any:
    size = Sliding(*layer.values()).output_size((input.shape[2], input.shape[3]), ceil_mode)
    values = empty_like_format(input, (input.shape[0], input.shape[1], *size))
    return values, torch.empty_like(values, dtype=torch.uint8)


def _setup_context(ctx: Any, inputs: Any, keyword_only_inputs: Any, output: Any) -> None:
    input, *ctx.geometry, _ = inputs
    ctx.size = (input.shape[2], input.shape[3])
    ctx.save_for_backward(output[1])


def _backward(ctx: Any, grad: Tensor, _: Any) -> tuple[Any, ...]:
    (switches,) = ctx.saved_tensors
    return torch.ops.zfkernels.max_unpool2d_with_switches(grad, switches, *ctx.geometry, ctx.size, "sum"), *[None] * 5


def _tangent(args: Any, tangents: Any, output: Any) -> tuple[Tensor, None]:
    """The tangent of each maximum: what stands at its switch."""
    input, *geometry, _ = args
    return reference.at_switches(output[1], (input.shape[2], input.shape[3]), *geometry)(tangents[0]), None


def _guard(*, input: Tensor, **layer: Any) -> None:
    check.tensor(NAME, "input", input, "[N, C, H, W]")
    _layer(input.shape, *layer.values())


op = define(
    f"{NAME}(Tensor input, int[2] kernel_size, int[2] stride, int[2] padding, int[2] dilation, bool ceil_mode)"
    " -> (Tensor, Tensor)",
    fake=_fake,
    backward=_backward,
    setup_context=_setup_context,
    tangent=_tangent,
    guard=_guard,
)
op.reference(reference.max_pool2d_with_switches)
op.native("cpp", (torch.float32, torch.float64))
op.native("cuda", (torch.float32, torch.float16, torch.bfloat16))
op.triton((torch.float32, torch.float16, torch.bfloat16))

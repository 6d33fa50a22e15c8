"""``max_unpool2d_with_switches``: schema, fake kernel, autograd formula, variants and the public function."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from zfkernels.geometry import Pair, Sliding
from zfkernels.ops import _checks as check
from zfkernels.ops._allocation import empty_like_format
from zfkernels.ops._registry import define
from zfkernels.ops.max_pool2d_with_switches.op import check_unpooled_size, pooling
from zfkernels.ops.max_pool2d_with_switches.reference import at_switches
from zfkernels.ops.max_unpool2d_with_switches import reference

NAME = "max_unpool2d_with_switches"
OVERLAP = ("sum", "last")


def max_unpool2d_with_switches(
    values: Tensor,  # [N, C, Hp, Wp]
    switches: Tensor,  # uint8 [N, C, Hp, Wp]
    kernel_size: int | Pair,
    stride: int | Pair | None = None,
    padding: int | Pair = 0,
    dilation: int | Pair = 1,
    *,
    output_size: Pair,
    overlap: str = "sum",
    backend: str | None = None,
) -> Tensor:
    """Puts each pooled value back to where its maximum was; zero elsewhere.

    Where windows overlap, several values can land on one pixel. ``"sum"`` adds them: the exact adjoint (backward) of
    max-pooling. ``"last"`` keeps that of the last window in row-major order, as ``F.max_unpool2d`` does on a CPU. Both
    are deterministic on every device.

    Source: Zeiler & Fergus 2013 (arXiv 1311.2901), section 2.1, figure 1 (the paper gives no rule for overlaps).

    Args:
        values: [N, C, Hp, Wp], float16, bfloat16, float32 or float64.
        switches: uint8 [N, C, Hp, Wp] from :func:`max_pool2d_with_switches`. One that points outside the output or
            its own pooling window is ignored.
        kernel_size: the pooling's, as are ``stride``, ``padding`` and ``dilation``.
        stride: defaults to ``kernel_size``.
        padding: in cells.
        dilation: in cells.
        output_size: (H, W) of the pooling's input.
        overlap: ``"sum"`` or ``"last"``.
        backend: variant asked for by name; None chooses by device.

    Returns:
        [N, C, H, W] of ``values``' dtype. Differentiable in ``values``.

    Raises:
        TypeError: wrong type or dtype.
        ValueError: wrong shape, device, geometry or overlap.
        BackendError: ``backend`` cannot run here.
    """
    check.tensor(NAME, "values", values, "[N, C, Hp, Wp]")
    check.switches(NAME, switches)
    check.same(NAME, "switches", switches, "values", values, dtype=False)
    layer, size = _layer(values.shape, switches.shape, kernel_size, stride, padding, dilation, output_size, overlap)
    return op(
        values, switches, layer.kernel, layer.stride, layer.padding, layer.dilation, size, overlap, backend=backend
    )


@check.remembered
def _layer(
    shape: torch.Size,
    switches_shape: torch.Size,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    output_size: Any,
    overlap: Any,
) -> tuple[Sliding, Pair]:
    layer = pooling(NAME, kernel_size, stride, padding, dilation)
    size = check.pair(NAME, "output_size", output_size, minimum=1)
    check.choice(NAME, "overlap", overlap, OVERLAP)
    check.equal(NAME, "switches' shape", tuple(switches_shape), tuple(shape))
    check_unpooled_size(NAME, "output_size", size, (shape[2], shape[3]), layer)
    return layer, size


def _fake(*, values: Tensor, output_size: Pair, **_: Any) -> Tensor:
    return empty_like_format(values, (values.shape[0], values.shape[1], *output_size))


def _setup_context(ctx: Any, inputs: Any, keyword_only_inputs: Any, output: Any) -> None:
    _, switches, *geometry, _, ctx.overlap = inputs
    ctx.layer = Sliding(*geometry)
    ctx.save_for_backward(switches)


def gather_at_switches(
    input: Tensor,  # [N, C, H, W]
    switches: Tensor,  # uint8 [N, C, Hp, Wp]
    layer: Sliding,
    overlap: str,
) -> Tensor:  # [N, C, Hp, Wp]
    """The adjoint of the unpooling; with ``overlap="last"`` windows that lost their pixel get zero."""
    geometry = (layer.kernel, layer.stride, layer.padding, layer.dilation)
    size = (input.shape[2], input.shape[3])
    gather = at_switches(switches, size, *geometry)
    if overlap == "sum":
        return gather(input)
    window = torch.arange(switches.shape[2] * switches.shape[3], dtype=torch.float64, device=switches.device)
    window = window.view(switches.shape[2:]).expand(switches.shape)
    last = torch.ops.zfkernels.max_unpool2d_with_switches(window, switches, *geometry, size, "last")
    return torch.where(gather(last) == window, gather(input), 0)


def _backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    (switches,) = ctx.saved_tensors
    return gather_at_switches(grad, switches, ctx.layer, ctx.overlap), *[None] * 7


def _tangent(args: Any, tangents: Any, output: Tensor) -> Tensor:
    """The op is linear: the tangent of the values, unpooled."""
    return torch.ops.zfkernels.max_unpool2d_with_switches(tangents[0], *args[1:])


def _guard(*, values: Tensor, switches: Tensor, **layer: Any) -> None:
    check.tensor(NAME, "values", values, "[N, C, Hp, Wp]")
    check.switches(NAME, switches)
    _layer(values.shape, switches.shape, *layer.values())


op = define(
    f"{NAME}(Tensor values, Tensor switches, int[2] kernel_size, int[2] stride, int[2] padding, int[2] dilation,"
    " SymInt[2] output_size, str overlap) -> Tensor",
    fake=_fake,
    backward=_backward,
    setup_context=_setup_context,
    tangent=_tangent,
    guard=_guard,
    flags={"overlap": "sum"},
)
op.reference(reference.max_unpool2d_with_switches)
op.native("cpp", (torch.float32, torch.float64))

"""The geometry of a DeconvNet stage, of whole maps and of windows, and the checks that both share."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from zfkernels.geometry import Pair, Sliding
from zfkernels.ops import _checks as check
from zfkernels.ops.max_pool2d_with_switches.op import check_unpooled_size, pooling

NO_POOL = Sliding((1, 1))


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


def too_much_to_unroll(
    *, switches: Tensor | None, weight: Tensor, pool_stride: Pair, stride: Pair, dilation: Pair, **_: Any
) -> str | None:
    """Why the Triton kernels cannot unroll the lattices of the pooling and the taps of a phase; None: they can."""
    steps = [stride[axis] // math.gcd(stride[axis], dilation[axis]) for axis in (0, 1)]
    taps = -(-weight.shape[2] // steps[0]) * -(-weight.shape[3] // steps[1])
    if switches is not None and pool_stride[0] * pool_stride[1] > 16:
        return f"it takes poolings whose strides have a product of at most 16, got {tuple(pool_stride)}"
    if taps > 64:
        return f"it takes at most 64 taps for each phase of the stride, got {taps}"
    return None

"""Headline shapes: layers of ZFNet and VGG-16 as the methods call the ops on whole maps, on tensors without memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from gpu_code.estimate import Work
from zfkernels.geometry import Pair, Sliding


@dataclass(frozen=True)
class Case:
    """A call of an op.

    Attributes:
        op: name of the op.
        name: of the shape.
        arguments: the op's flat arguments, from a function that makes a tensor of a shape and dtype (None: the maps').
        multiply_adds: that the task needs.
        trips: of the innermost loops with arithmetic of the recorded launch, in the order of the code.
    """

    op: str
    name: str
    arguments: Callable[[Callable[..., Tensor]], tuple[Any, ...]]
    multiply_adds: int
    trips: Callable[[Any], Sequence[float]]

    def flat(self, dtype: torch.dtype, device: str = "meta") -> tuple[Any, ...]:
        """The arguments on ``device``, maps channels last; numbers are not set."""

        def make(*shape: int, of: torch.dtype | None = None) -> Tensor:
            empty = torch.empty(shape, dtype=of or dtype, device=device)
            return empty.contiguous(memory_format=torch.channels_last) if len(shape) == 4 else empty

        return self.arguments(make)

    def work(self, dtype: torch.dtype) -> Work:
        """Multiply-adds, and each input and output once. Frames around windows count as far as windows reach: once."""
        flat = self.flat(dtype)
        outputs = getattr(torch.ops.zfkernels, self.op).default(*flat)
        results = outputs if isinstance(outputs, tuple) else (outputs,)
        tensors = [t for t in pytree.tree_leaves((flat, results)) if isinstance(t, Tensor)]
        return Work(self.multiply_adds, sum(t.numel() * t.element_size() for t in tensors))


def launches_of(case: Case, dtype: torch.dtype, arch: str = "sm_90") -> list[Any]:
    """What the Triton variant of the op would launch on a GPU of ``arch``."""
    from zfkernels.ops import _triton_launch, registered

    kernel = registered()[case.op].variants["triton"].load()
    capability = int(arch[3:]) if arch.startswith("sm_") else 0
    with _triton_launch.record(capability) as launches:
        kernel(*case.flat(dtype))
    return launches


def value_of(launch: Any, name: str) -> Any:
    values = dict(zip(launch.kernel.arg_names, launch.args, strict=False)) | launch.options
    return values[name]


def once(launch: Any) -> list[int]:
    return [1]


def steps(launch: Any) -> list[int]:
    """Of a loop over taps around one over channels."""
    blocks = math.ceil(value_of(launch, "CG") / value_of(launch, "BLOCK_K"))
    return [value_of(launch, "KH") * value_of(launch, "KW") * blocks]


def flat_steps(launch: Any) -> list[int]:
    return [
        math.ceil(
            value_of(launch, "KH") * value_of(launch, "KW") * value_of(launch, "CG") / value_of(launch, "BLOCK_K")
        )
    ]


def of_bands(launch: Any) -> list[int]:
    blocks = math.ceil(value_of(launch, "CG") / value_of(launch, "BLOCK_K"))
    return [blocks] * (len(value_of(launch, "BANDS_Y")) * len(value_of(launch, "BANDS_X")))


def _stage(name: str, batch: int, channels: Pair, conv: Sliding, pool: Sliding, size: int) -> Case:
    """A DeconvNet stage of whole maps."""
    above, below = channels
    unpooled = conv.output_size((size, size))
    pooled = pool.output_size(unpooled)

    def arguments(make: Callable[..., Tensor]) -> tuple[Any, ...]:
        return (
            make(batch, above, *pooled), make(batch, above, *pooled, of=torch.uint8), make(above, below, *conv.kernel),
            pool.kernel, pool.stride, pool.padding, pool.dilation, unpooled,
            conv.stride, conv.padding, conv.dilation, 1, (size, size), "sum", True,
        )  # fmt: skip

    products = batch * math.prod(unpooled) * above * below * math.prod(conv.kernel)
    return Case("unpool_relu_conv_transpose2d", name, arguments, products, of_bands)


def _pool(name: str, batch: int, channels: int, pool: Sliding, size: int) -> Case:
    def arguments(make: Callable[..., Tensor]) -> tuple[Any, ...]:
        return make(batch, channels, size, size), pool.kernel, pool.stride, pool.padding, pool.dilation, False

    return Case("max_pool2d_with_switches", name, arguments, 0, once)


def square(kernel: int, stride: int = 1, padding: int = 0) -> Sliding:
    return Sliding((kernel, kernel), (stride, stride), (padding, padding))


CASES = (
    _stage("zfnet2", 16, (256, 96), square(5, 2), square(3, 2, 1), 55),
    _stage("zfnet1", 16, (96, 3), square(7, 2, 1), square(3, 2, 1), 224),
    _stage("zfnet5", 16, (256, 384), square(3, 1, 1), square(3, 2), 13),
    _stage("vgg16.3", 16, (256, 256), square(3, 1, 1), square(2, 2), 56),
    _pool("zfnet1", 64, 96, square(3, 2, 1), 110),
)

# The same calls on shapes that take an interpreter or a debugger seconds.
SMALL = (
    _stage("stage", 2, (16, 24), square(3, 2), square(3, 2, 1), 15),
    _stage("pixels", 1, (8, 3), square(5, 2, 1), square(3, 2, 1), 16),
    _pool("pooling", 1, 16, square(3, 2, 1), 13),
)

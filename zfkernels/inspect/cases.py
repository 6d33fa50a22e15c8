"""Headline shapes: layers of ZFNet, AlexNet and VGG-16 as the methods call the ops, on tensors without memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from zfkernels.inspect.estimate import Work
from zfkernels.windows import Pair, Sliding


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


def _stage(
    name: str, batch: int, channels: Pair, conv: Sliding, pool: Sliding, size: int, windows: Pair | None = None
) -> Case:
    """A DeconvNet stage, dense, or ``batch`` windows of this many pooled cells over 16 images."""
    above, below = channels
    unpooled = conv.output_size((size, size))
    pooled = pool.output_size(unpooled)

    def arguments(make: Callable[..., Tensor]) -> tuple[Any, ...]:
        places: tuple[Tensor | None, ...] = (None, None, None)
        images, out_size = batch, (size, size)
        if windows:
            reach = conv.span(pool.span(windows))
            images, out_size = 16, (min(reach[0], size), min(reach[1], size))
            places = make(batch, 2, of=torch.int32), make(batch, of=torch.int64), make(batch, 2, of=torch.int32)
        return (
            make(batch, above, *(windows or pooled)), make(images, above, *pooled, of=torch.uint8),
            make(above, below, *conv.kernel), *places, pool.kernel, pool.stride, pool.padding, pool.dilation, unpooled,
            conv.stride, conv.padding, conv.dilation, 1, out_size, "sum", True,
        )  # fmt: skip

    cells = pool.span(windows) if windows else unpooled
    products = batch * math.prod(cells) * above * below * math.prod(conv.kernel)
    return Case("unpool_relu_conv_transpose2d", name, arguments, products, of_bands)


def _occluded(name: str, count: int, channels: Pair, conv: Sliding, size: int, square: int) -> Case:
    out = conv.most_touched((square, square))

    def arguments(make: Callable[..., Tensor]) -> tuple[Any, ...]:
        return (
            make(1, channels[0], size, size), make(channels[1], channels[0], *conv.kernel), make(channels[1]),
            make(count, 2, of=torch.int32), make(count, of=torch.int64), make(channels[0]), (square, square),
            make(count, 2, of=torch.int32), out, conv.stride, conv.padding, conv.dilation, 1, True,
        )  # fmt: skip

    products = count * math.prod(out) * math.prod(channels) * math.prod(conv.kernel)
    return Case("occluded_conv2d", name, arguments, products, flat_steps)


def _window_conv(name: str, count: int, channels: Pair, conv: Sliding, size: int, window: int) -> Case:
    most, frame = conv.most_touched((window, window)), conv.output_size((size, size))
    out = (min(most[0], frame[0]), min(most[1], frame[1]))

    def arguments(make: Callable[..., Tensor]) -> tuple[Any, ...]:
        return (
            make(count, channels[0], window, window), make(count, 2, of=torch.int32), make(count, of=torch.int64),
            make(1, channels[0], size, size), make(channels[1], channels[0], *conv.kernel), make(channels[1]),
            make(count, 2, of=torch.int32), out, conv.stride, conv.padding, conv.dilation, 1, True,
        )  # fmt: skip

    products = count * math.prod(out) * math.prod(channels) * math.prod(conv.kernel)
    return Case("window_conv2d", name, arguments, products, steps)


def _pool(name: str, batch: int, channels: int, pool: Sliding, size: int) -> Case:
    def arguments(make: Callable[..., Tensor]) -> tuple[Any, ...]:
        return make(batch, channels, size, size), pool.kernel, pool.stride, pool.padding, pool.dilation, False

    return Case("max_pool2d_with_switches", name, arguments, 0, once)


def _window_pool(name: str, count: int, channels: int, pool: Sliding, size: int, window: int) -> Case:
    out = pool.most_touched((window, window))

    def arguments(make: Callable[..., Tensor]) -> tuple[Any, ...]:
        return (
            make(count, channels, window, window), make(count, 2, of=torch.int32), make(count, of=torch.int64),
            make(1, channels, size, size), pool.kernel, make(count, 2, of=torch.int32), out,
            pool.stride, pool.padding, pool.dilation,
        )  # fmt: skip

    return Case("window_max_pool2d", name, arguments, 0, once)


def square(kernel: int, stride: int = 1, padding: int = 0) -> Sliding:
    return Sliding((kernel, kernel), (stride, stride), (padding, padding))


CASES = (
    _stage("zfnet2", 16, (256, 96), square(5, 2), square(3, 2, 1), 55),
    _stage("zfnet1", 16, (96, 3), square(7, 2, 1), square(3, 2, 1), 224),
    _stage("zfnet5", 16, (256, 384), square(3, 1, 1), square(3, 2), 13),
    _stage("vgg16.3", 16, (256, 256), square(3, 1, 1), square(2, 2), 56),
    _stage("zfnet2-windows", 1024, (256, 96), square(5, 2), square(3, 2, 1), 55, windows=(2, 2)),
    _occluded("zfnet1", 3136, (3, 96), square(7, 2, 1), 224, 16),
    _occluded("vgg16.1", 3136, (3, 64), square(3, 1, 1), 224, 16),
    _window_conv("zfnet2", 3136, (96, 256), square(5, 2), 55, 7),
    _window_conv("vgg16.3", 3136, (128, 256), square(3, 1, 1), 56, 8),
    _pool("zfnet1", 64, 96, square(3, 2, 1), 110),
    _window_pool("zfnet1", 3136, 96, square(3, 2, 1), 110, 11),
)

# The same calls on shapes that take an interpreter or a debugger seconds.
SMALL = (
    _stage("stage", 2, (16, 24), square(3, 2), square(3, 2, 1), 15),
    _stage("pixels", 1, (8, 3), square(5, 2, 1), square(3, 2, 1), 16),
    _stage("windows", 8, (16, 24), square(3, 2), square(3, 2, 1), 31, windows=(2, 2)),
    _occluded("squares", 9, (3, 16), square(3, 1, 1), 16, 6),
    _window_conv("windows", 9, (16, 24), square(3, 1, 1), 12, 4),
    _pool("pooling", 1, 16, square(3, 2, 1), 13),
    _window_pool("windows", 9, 16, square(3, 2, 1), 14, 5),
)

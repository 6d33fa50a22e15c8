"""Headline shapes of the ops on windows: layers of ZFNet, VGG-16 and ResNet-18 as a sweep of 3,136 positions and
a projection of 1,024 activations call them. All windows of a case have one size; the kernels do not know that.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gpu_code.cases import Case, flat_steps, of_bands, once, square, steps, value_of
from zfkernels.geometry import Pair, Sliding

Make = Callable[..., Tensor]


@dataclass(frozen=True)
class Places:
    """Where the windows of an argument lie: the positions of their boxes, offsets and owners among the arguments.

    Of the lists of an op, the first tensor is meant.
    """

    boxes: int
    offsets: int | None
    owner: int | None
    size: Pair
    frame: Pair


@dataclass(frozen=True)
class WindowCase(Case):
    """A call of an op on windows."""

    places: tuple[Places, ...] = ()

    def fill(self, flat: tuple[Any, ...], generator: torch.Generator) -> None:
        """Sets boxes anywhere in their frames, and offsets and owners that fit them; the first image everywhere."""
        first = [part[0] if isinstance(part, list) else part for part in flat]
        for tensor in first:
            if isinstance(tensor, Tensor) and tensor.dtype == torch.int64:
                tensor.zero_()
        for place in self.places:
            boxes, cells = first[place.boxes], math.prod(place.size)
            for axis in (0, 1):
                boxes[:, axis].random_(place.frame[axis] - place.size[axis] + 1, generator=generator)
                boxes[:, 2 + axis] = place.size[axis]
            if place.offsets is not None:
                first[place.offsets].copy_(torch.arange(len(boxes) + 1) * cells)
            if place.owner is not None:
                first[place.owner].copy_(torch.arange(len(boxes)).repeat_interleave(cells))


def _windows(make: Make, count: int, size: Pair, channels: int) -> tuple[Tensor, ...]:
    """Values, boxes, offsets and images."""
    return (make(count * math.prod(size), channels), *_boxes(make, count), make(count, of=torch.int64))


def _boxes(make: Make, count: int) -> tuple[Tensor, Tensor]:
    return make(count, 4, of=torch.int32), make(count + 1, of=torch.int64)


def _outputs(make: Make, count: int, size: Pair) -> tuple[Any, ...]:
    """Boxes, offsets, owners and cells of the outputs."""
    cells = count * math.prod(size)
    return (*_boxes(make, count), make(cells, of=torch.int32), cells)


def _touched(layer: Sliding, window: int, size: int) -> tuple[Pair, Pair]:
    """The size of the outputs' windows and of their frame."""
    most, frame = layer.most_touched((window, window)), layer.output_size((size, size))
    return (min(most[0], frame[0]), min(most[1], frame[1])), frame


def _conv(
    name: str, count: int, channels: Pair, conv: Sliding, size: int, window: int, groups: int = 1
) -> WindowCase:  # fmt: skip
    (out, frame), side = _touched(conv, window, size), (window, window)

    def arguments(make: Make) -> tuple[Any, ...]:
        return (
            *_windows(make, count, side, channels[0]), make(1, channels[0], size, size), (size, size),
            make(channels[1], channels[0] // groups, *conv.kernel), make(channels[1]), *_outputs(make, count, out),
            conv.stride, conv.padding, conv.dilation, groups, True,
        )  # fmt: skip

    products = count * math.prod(out) * math.prod(channels) // groups * math.prod(conv.kernel)
    places = (Places(1, 2, None, side, (size, size)), Places(8, 9, 10, out, frame))
    trips = once if groups == channels[0] else steps
    return WindowCase("window_conv2d", name, arguments, products, trips, places)


def _occluded(name: str, count: int, channels: Pair, conv: Sliding, size: int, square: int) -> WindowCase:
    (out, frame), side = _touched(conv, square, size), (square, square)

    def arguments(make: Make) -> tuple[Any, ...]:
        return (
            make(1, channels[0], size, size), make(channels[1], channels[0], *conv.kernel), make(channels[1]),
            make(count, 4, of=torch.int32), make(count, of=torch.int64), make(channels[0]), *[None] * 5,
            *_outputs(make, count, out), conv.stride, conv.padding, conv.dilation, 1, True,
        )  # fmt: skip

    products = count * math.prod(out) * math.prod(channels) * math.prod(conv.kernel)
    places = (Places(3, None, None, side, (size, size)), Places(11, 12, 13, out, frame))
    return WindowCase("occluded_conv2d", name, arguments, products, flat_steps, places)


def _pool(name: str, how: str, count: int, channels: int, pool: Sliding, size: int, window: int) -> WindowCase:
    (out, frame), side = _touched(pool, window, size), (window, window)

    def arguments(make: Make) -> tuple[Any, ...]:
        rest = (pool.dilation,) if how == "max" else (True, None)
        return (
            *_windows(make, count, side, channels), make(1, channels, size, size), (size, size),
            *_outputs(make, count, out), pool.kernel, pool.stride, pool.padding, *rest,
        )  # fmt: skip

    places = (Places(1, 2, None, side, (size, size)), Places(6, 7, 8, out, frame))
    return WindowCase(f"window_{how}_pool2d", name, arguments, 0, once, places)


def _gather(name: str, count: int, channels: int, size: int, window: int, out: int) -> WindowCase:
    """Windows aligned to larger boxes, as at an addition."""
    side, frame = (window, window), (size, size)

    def arguments(make: Make) -> tuple[Any, ...]:
        values, boxes, offsets, image = _windows(make, count, side, channels)
        return (
            *_outputs(make, count, (out, out)), image, [values], [boxes], [offsets], [None],
            make(1, channels, size, size), frame,
        )  # fmt: skip

    places = (Places(0, 1, 2, (out, out), frame), Places(6, 7, None, side, frame))
    return WindowCase("window_gather", name, arguments, 0, once, places)


def _reduce(name: str, count: int, channels: int, size: int, window: int) -> WindowCase:
    def arguments(make: Make) -> tuple[Any, ...]:
        windows = _windows(make, count, (window, window), channels)
        return (*windows, make(1, channels, size, size), (size, size), "sum")

    def trips(launch: Any) -> list[float]:
        return [math.ceil(size * size / value_of(launch, "ROWS"))]

    places = (Places(1, 2, None, (window, window), (size, size)),)
    return WindowCase("window_reduce", name, arguments, 0, trips, places)


def _stage(
    name: str, count: int, channels: Pair, conv: Sliding, pool: Sliding, size: int, window: int
) -> WindowCase:  # fmt: skip
    """A DeconvNet stage on windows of the pooled maps of 16 images."""
    above, below = channels
    unpooled = conv.output_size((size, size))
    pooled, side = pool.output_size(unpooled), (window, window)
    reach = conv.span(pool.span(side))
    out = min(reach[0], size), min(reach[1], size)

    def arguments(make: Make) -> tuple[Any, ...]:
        return (
            *_windows(make, count, side, above), None, pooled, make(16, above, *pooled, of=torch.uint8),
            make(above, below, *conv.kernel), *_outputs(make, count, out), pool.kernel, pool.stride, pool.padding,
            pool.dilation, unpooled, conv.stride, conv.padding, conv.dilation, 1, "sum", True,
        )  # fmt: skip

    def trips(launch: Any) -> list[float]:
        """Of the programs that have places: the grid has room for more."""
        needed = [out[i] // (conv.stride[i] * pool.stride[i]) + 2 for i in (0, 1)]
        share = count * math.prod(needed) / (launch.grid[0] * value_of(launch, "BLOCK_T"))
        return [trip * min(share, 1.0) for trip in of_bands(launch)]

    products = count * math.prod(pool.span(side)) * above * below * math.prod(conv.kernel)
    places = (Places(1, 2, None, side, pooled), Places(8, 9, 10, out, (size, size)))
    return WindowCase("window_unpool_relu_conv_transpose2d", name, arguments, products, trips, places)


WINDOWS = (
    _occluded("zfnet1", 3136, (3, 96), square(7, 2, 1), 224, 16),
    _occluded("vgg16.1", 3136, (3, 64), square(3, 1, 1), 224, 16),
    _conv("zfnet2", 3136, (96, 256), square(5, 2), 55, 7),
    _conv("vgg16.3", 3136, (128, 256), square(3, 1, 1), 56, 8),
    _conv("depthwise", 3136, (96, 96), square(3, 1, 1), 56, 8, groups=96),
    _pool("zfnet1", "max", 3136, 96, square(3, 2, 1), 110, 11),
    _pool("resnet18", "avg", 3136, 128, square(2, 2), 56, 10),
    _gather("resnet18", 3136, 64, 56, 9, 11),
    _reduce("resnet18", 3136, 512, 7, 6),
    _stage("zfnet2", 1024, (256, 96), square(5, 2), square(3, 2, 1), 55, 2),
)

# The same calls on shapes that take an interpreter or a debugger seconds.
WINDOWS_SMALL = (
    _occluded("squares", 9, (3, 16), square(3, 1, 1), 16, 6),
    _conv("windows", 9, (16, 24), square(3, 1, 1), 12, 4),
    _conv("depthwise", 9, (16, 16), square(3, 1, 1), 12, 4, groups=16),
    _pool("windows", "max", 9, 16, square(3, 2, 1), 14, 5),
    _pool("windows", "avg", 9, 16, square(2, 2), 14, 5),
    _gather("windows", 9, 16, 12, 4, 6),
    _reduce("windows", 9, 16, 12, 4),
    _stage("windows", 8, (16, 24), square(3, 2), square(2, 2), 31, 2),
)

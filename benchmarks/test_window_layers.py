"""Layers on windows against PyTorch's layers on crops that are already cut out, so that the baseline's cutting is free.

Windows of 1, 64 and 512 positions; and the first convolution of a sweep with a square at every pixel of a region.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from rounds import Race, Work, replay, replay_timer
from torch import Tensor
from variants import EAGER, race_variants, window_contenders

from zfkernels.geometry import Boxes, Sliding, outputs_touched, place
from zfkernels.ops import (
    occluded_conv2d,
    unpool_relu_conv_transpose2d,
    window_conv2d,
    window_gather,
    window_max_pool2d,
)
from zfkernels.windows import Layout, Windows

pytestmark = pytest.mark.benchmark(timer=replay_timer)
COUNTS = (1, 64, 512)
FILL = "fill"  # of as much memory as the windows take, in huge pages fresh from the system, as the kernel asks for


@dataclass(frozen=True)
class Layer:
    name: str
    channels: tuple[int, int]  # read, written
    frame: int
    window: int
    kernel: int
    stride: int = 1
    padding: int = 0

    @property
    def sliding(self) -> Sliding:
        return Sliding(*((value, value) for value in (self.kernel, self.stride, self.padding)))

    @property
    def touched(self) -> tuple[int, int]:
        return self.sliding.most_touched((self.window, self.window))


# What a square of 16 pixels changes in vgg16, and of 32 in alexnet.
CONVOLUTIONS = (
    Layer("vgg16.conv1_2", (64, 64), 224, 18, 3, 1, 1),
    Layer("vgg16.conv3_2", (256, 256), 56, 10, 3, 1, 1),
    Layer("vgg16.conv5_2", (512, 512), 14, 7, 3, 1, 1),
    Layer("alexnet.conv2", (64, 192), 27, 6, 5, 1, 2),
)
POOLINGS = (Layer("vgg16.pool1", (64, 64), 224, 20, 2, 2), Layer("alexnet.pool1", (64, 64), 55, 11, 3, 2))
FIRST = (
    Layer("3x3", (3, 64), 224, 32, 3, 1, 1),
    Layer("7x7s2", (3, 64), 224, 32, 7, 2, 3),
    Layer("11x11s4", (3, 64), 224, 32, 11, 4, 2),
)


def windows(layer: Layer, count: int, turn: int) -> dict[str, Any]:
    """Windows at random places and the frame around them."""
    generator = torch.Generator().manual_seed(turn)
    corners = torch.randint(0, layer.frame - layer.window + 1, (count, 2), dtype=torch.int32, generator=generator)
    values = torch.randn(count, layer.channels[0], layer.window, layer.window, generator=generator)
    image = torch.zeros(count, dtype=torch.int64)
    given = Windows.of(values, corners, image, (layer.frame, layer.frame))
    frames = torch.randn(1, layer.channels[0], layer.frame, layer.frame, generator=generator)
    weight = torch.randn(layer.channels[1], layer.channels[0], layer.kernel, layer.kernel, generator=generator)
    return {"windows": given, "frames": frames.contiguous(memory_format=torch.channels_last), "weight": weight}


def cut_out(layer: Layer, source: Windows, frames: Tensor, fill: float) -> tuple[Layout, Tensor]:
    """Where the outputs of windows of one size lie, all of one size, and the crops of the layer that they read."""
    frame, size = layer.sliding.output_size(source.frame), layer.sliding.span(layer.touched)
    out = place(outputs_touched(Boxes.of(source.boxes), layer.sliding, frame).lo, layer.touched, frame)
    padded = F.pad(frames, (layer.padding, size[1], layer.padding, size[0]), value=fill)
    shift = torch.tensor([layer.padding, layer.padding, 0, 0], dtype=torch.int32)
    around = (padded.shape[2], padded.shape[3])
    moved = Windows(source.values, source.boxes + shift, source.offsets, source.image, around)
    crops = window_gather([moved], padded, boxes_at(out * layer.stride, size))
    return Layout.of(boxes_at(out, layer.touched), source.image, frame), maps(crops, size).contiguous()


def boxes_at(origins: Tensor, size: tuple[int, int]) -> Tensor:
    return torch.cat([origins, origins.new_tensor(size).expand_as(origins)], 1)


def with_crops(layer: Layer, given: dict[str, Any], fill: float) -> dict[str, Any]:
    out, crops = cut_out(layer, given["windows"], given["frames"], fill)
    return given | {"out_boxes": out, "crops": crops}


def maps(windows: Windows, size: tuple[int, int]) -> Tensor:
    """Windows of one size as [P, C, h, w]."""
    return windows.values.view(len(windows), *size, -1).permute(0, 3, 1, 2)


@cache
def convolution(layer: Layer, count: int) -> Race:
    def call(given: dict[str, Any], backend: str) -> Tensor:
        out = window_conv2d(
            given["windows"], given["frames"], given["weight"], stride=layer.stride, padding=layer.padding,
            relu=True, out_boxes=given["out_boxes"], backend=backend,
        )  # fmt: skip
        return maps(out, layer.touched)

    def make(turn: int) -> dict[str, Any]:
        return with_crops(layer, windows(layer, count, turn), 0.0)

    return race_variants(
        call,
        lambda given: F.conv2d(given["crops"], given["weight"], stride=layer.stride).relu(),
        make,
        names=window_contenders("window_conv2d"),
    )


@cache
def pooling(layer: Layer, count: int) -> Race:
    def call(given: dict[str, Any], backend: str) -> Tensor:
        out = window_max_pool2d(
            given["windows"], given["frames"], layer.kernel, layer.stride, out_boxes=given["out_boxes"],
            backend=backend,
        )  # fmt: skip
        return maps(out, layer.touched)

    def make(turn: int) -> dict[str, Any]:
        return with_crops(layer, windows(layer, count, turn), float("-inf"))

    return race_variants(
        call,
        lambda given: F.max_pool2d(given["crops"], layer.kernel, layer.stride),
        make,
        names=window_contenders("window_max_pool2d"),
    )


def every_pixel() -> Tensor:
    """All places of a square of 32 in a region of 64 x 64: positions int32 [P, 2]."""
    return torch.cartesian_prod(torch.arange(80, 113), torch.arange(80, 113)).to(torch.int32)


def filled(size: int) -> Tensor:
    if not hasattr(mmap, "MADV_HUGEPAGE"):  # Linux has it
        return torch.ones(size // 4)
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(memory, dtype=torch.float32).fill_(1)


@cache
def first_convolution(layer: Layer) -> Race:
    positions = every_pixel()
    boxes = boxes_at(positions, (layer.window, layer.window))
    hidden = Windows.of(
        torch.zeros(len(boxes), layer.channels[0], layer.window, layer.window), positions,
        torch.zeros(len(boxes), dtype=torch.int64), (layer.frame, layer.frame),
    )  # fmt: skip

    def call(given: dict[str, Any], backend: str) -> Tensor:
        out = occluded_conv2d(
            given["image"], given["weight"], None, boxes, stride=layer.stride, padding=layer.padding,
            out_boxes=given["out_boxes"], backend=backend,
        )  # fmt: skip
        return maps(out, layer.touched)

    def make(turn: int) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(turn)
        picture = torch.randn(1, layer.channels[0], layer.frame, layer.frame, generator=generator)
        weight = torch.randn(layer.channels[1], layer.channels[0], layer.kernel, layer.kernel, generator=generator)
        out, crops = cut_out(layer, hidden, picture, 0.0)
        return {"image": picture, "weight": weight, "crops": crops, "out_boxes": out}

    return race_variants(
        call, lambda given: F.conv2d(given["crops"], given["weight"], stride=layer.stride), make,
        names=window_contenders("occluded_conv2d"), rounds=5,
        floors={FILL: lambda given: filled(4 * given["out_boxes"].cells * layer.channels[1])},
    )  # fmt: skip


@cache
def projected_units(count: int) -> Race:
    """Windows of 3 x 3 pooled cells of alexnet's second stage, each with the switches of one of nine images."""
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(9, 192, 27, 27, generator=generator)
    switches = maps.new_empty(9, 192, 13, 13, dtype=torch.uint8).random_(0, 9, generator=generator)
    weight = torch.randn(192, 64, 5, 5, generator=generator)

    def make(turn: int) -> dict[str, Any]:
        values = torch.randn(count, 192, 3, 3, generator=torch.Generator().manual_seed(turn))
        corners = torch.randint(0, 11, (count, 2), dtype=torch.int32)
        given = Windows.of(values, corners, torch.arange(count) % 9, (13, 13))
        return {"windows": given, "unpooled": torch.relu(torch.randn(count, 192, 7, 7)) * (torch.rand(7, 7) < 0.2)}

    return race_variants(
        lambda given, backend: unpool_relu_conv_transpose2d(
            given["windows"], switches, weight, pool_kernel_size=3, pool_stride=2, unpooled_size=(27, 27), padding=2,
            output_size=(27, 27), backend=backend,
        ).values,
        lambda given: F.conv_transpose2d(given["unpooled"], weight),
        make,
        names=window_contenders("window_unpool_relu_conv_transpose2d"),
        same=False,  # the baseline's windows are unpooled already
    )  # fmt: skip


def work(layer: Layer, count: int, convolves: bool = True) -> Work:
    rows, columns = layer.touched
    outputs, inputs = count * layer.channels[1] * rows * columns, count * layer.channels[0] * layer.window**2
    adds = outputs * layer.channels[0] * layer.kernel**2 if convolves else 0
    return Work(adds, 4 * (outputs + inputs))


@pytest.mark.parametrize("contender", window_contenders("window_conv2d"))
@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("layer", CONVOLUTIONS, ids=lambda layer: layer.name)
def test_window_conv2d(benchmark: Any, layer: Layer, count: int, contender: str) -> None:
    group = f"window_conv2d-{layer.name}-{count}x{layer.window}x{layer.window}-float32"
    replay(benchmark, convolution(layer, count), contender, group, baselines=EAGER, work=work(layer, count))


@pytest.mark.parametrize("contender", window_contenders("window_max_pool2d"))
@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("layer", POOLINGS, ids=lambda layer: layer.name)
def test_window_max_pool2d(benchmark: Any, layer: Layer, count: int, contender: str) -> None:
    group = f"window_max_pool2d-{layer.name}-{count}x{layer.window}x{layer.window}-float32"
    replay(benchmark, pooling(layer, count), contender, group, baselines=EAGER, work=work(layer, count, False))


@pytest.mark.parametrize("contender", [*window_contenders("occluded_conv2d"), FILL])
@pytest.mark.parametrize("layer", FIRST, ids=lambda layer: layer.name)
def test_occluded_conv2d(benchmark: Any, layer: Layer, contender: str) -> None:
    count = len(every_pixel())
    group = f"occluded_conv2d-{layer.name}-window{layer.window}-stride1-{count}-float32"
    rows, columns = layer.touched
    written = Work(bytes=4 * count * layer.channels[1] * rows * columns)  # the multiply-adds are shared by positions
    race = first_convolution(layer)
    replay(benchmark, race, contender, group, baselines=EAGER, work=written, times_of_fill=race.ratio(contender, FILL))


@pytest.mark.parametrize("contender", window_contenders("window_unpool_relu_conv_transpose2d"))
@pytest.mark.parametrize("count", COUNTS)
def test_projected_units(benchmark: Any, count: int, contender: str) -> None:
    values, outputs = count * 192 * 9, count * 64 * 11 * 11
    need = Work(values / 2 * 64 * 25, 5 * values + 4 * outputs)
    group = f"unpool_relu_conv_transpose2d-alexnet2-{count}-windows-float32"
    replay(benchmark, projected_units(count), contender, group, baselines=EAGER, work=need)

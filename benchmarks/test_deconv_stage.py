"""unpool_relu_conv_transpose2d against unpooling, rectifying and filtering with PyTorch's own functions."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from rounds import Race, Work, replay, replay_timer
from torch import Tensor
from variants import EAGER, contenders, race_variants

from zfkernels.geometry import Sliding
from zfkernels.ops import (
    max_pool2d_with_switches,
    max_unpool2d_with_switches,
    switches_to_indices,
    unpool_relu_conv_transpose2d,
)

OP = "unpool_relu_conv_transpose2d"
pytestmark = pytest.mark.benchmark(timer=replay_timer)


@dataclass(frozen=True)
class Case:
    """A convolution, its input's and output's size, and the pooling above it."""

    name: str
    batch: int
    channels: tuple[int, int]  # of the forward convolution's output and input
    kernel: int
    stride: int
    padding: int
    size: int  # of the forward convolution's input
    pool: Sliding

    @property
    def unpooled(self) -> int:
        return (self.size + 2 * self.padding - self.kernel) // self.stride + 1

    @property
    def group(self) -> str:
        above, below = self.channels
        conv = f"{above}to{below}-{self.kernel}x{self.kernel}s{self.stride}-{self.unpooled}to{self.size}"
        return f"{OP}-{self.name}-batch{self.batch}-{conv}-float32"


def pool(kernel: int, stride: int, padding: int = 0) -> Sliding:
    return Sliding((kernel, kernel), (stride, stride), (padding, padding))


CASES = (
    Case("zfnet1", 16, (96, 3), 7, 2, 1, 224, pool(3, 2, 1)),
    Case("zfnet2", 16, (256, 96), 5, 2, 0, 55, pool(3, 2, 1)),
    Case("zfnet5", 16, (256, 384), 3, 1, 1, 13, pool(3, 2)),
    Case("alexnet1", 16, (64, 3), 11, 4, 2, 224, pool(3, 2)),
    Case("alexnet2", 16, (192, 64), 5, 1, 2, 27, pool(3, 2)),
    Case("alexnet5", 16, (256, 256), 3, 1, 1, 13, pool(3, 2)),
    Case("vgg16.1", 4, (64, 64), 3, 1, 1, 224, pool(2, 2)),
    Case("vgg16.2", 4, (128, 128), 3, 1, 1, 112, pool(2, 2)),
    Case("vgg16.3", 4, (256, 256), 3, 1, 1, 56, pool(2, 2)),
    Case("vgg16.4", 4, (512, 512), 3, 1, 1, 28, pool(2, 2)),
    Case("vgg16.5", 4, (512, 512), 3, 1, 1, 14, pool(2, 2)),
)


def inputs(case: Case, turn: int) -> dict[str, Tensor]:
    """A signal half of which is negative, and the switches of random maps."""
    generator = torch.Generator().manual_seed(turn)
    above, below = case.channels
    maps = torch.randn(case.batch, above, case.unpooled, case.unpooled, generator=generator)
    pooled, switches = max_pool2d_with_switches(maps, case.pool.kernel, case.pool.stride, case.pool.padding)
    size = (case.unpooled, case.unpooled)
    indices = switches_to_indices(switches, case.pool.kernel, case.pool.stride, case.pool.padding, input_size=size)
    return {
        "values": torch.randn(pooled.shape, generator=generator),
        "switches": switches,
        "indices": indices,
        "weight": torch.randn(above, below, case.kernel, case.kernel, generator=generator),
    }


@cache
def work(case: Case) -> Work:
    """Multiply-adds of the unpooled cells that are above zero: colliding values have become one."""
    given, above, below = inputs(case, 0), *case.channels
    size = (case.unpooled, case.unpooled)
    unpooled = max_unpool2d_with_switches(
        given["values"], given["switches"], case.pool.kernel, case.pool.stride, case.pool.padding, output_size=size
    )
    values, taps, outputs = given["values"].numel(), below * case.kernel**2, case.batch * below * case.size**2
    return Work(int((unpooled > 0).sum()) * taps, 5 * values + 4 * (above * taps + outputs))


@cache
def race(case: Case) -> Race:
    rest = (case.size + 2 * case.padding - case.kernel) % case.stride
    geometry = (case.pool.kernel, case.pool.stride, case.pool.padding)

    def fused(given: dict[str, Tensor], backend: str) -> Tensor:
        return unpool_relu_conv_transpose2d(
            given["values"], given["switches"], given["weight"], pool_kernel_size=case.pool.kernel,
            pool_stride=case.pool.stride, pool_padding=case.pool.padding, unpooled_size=(case.unpooled, case.unpooled),
            stride=case.stride, padding=case.padding, output_size=(case.size, case.size), backend=backend,
        )  # fmt: skip

    def eager(given: dict[str, Tensor]) -> Tensor:
        unpooled = F.max_unpool2d(given["values"], given["indices"], *geometry, (case.unpooled, case.unpooled))
        return F.conv_transpose2d(unpooled.relu(), given["weight"], None, case.stride, case.padding, rest)

    # Where pooling windows overlap, F.max_unpool2d keeps one of the colliding values, any of them.
    apart = case.pool.kernel == case.pool.stride
    return race_variants(fused, eager, lambda turn: inputs(case, turn), names=contenders(OP), same=apart)


@pytest.mark.parametrize("contender", contenders(OP))
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.group)
def test_deconv_stage(benchmark: Any, case: Case, contender: str) -> None:
    replay(benchmark, race(case), contender, case.group, baselines=EAGER, work=work(case))

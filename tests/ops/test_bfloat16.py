"""Convolutions of bfloat16 numbers in every instruction set that this processor runs: summed in float, rounded once."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import pairwise

import pytest
import torch
from support.rounding import rms
from torch import Tensor

from zfkernels import ops
from zfkernels.ops import occluded_conv2d, window_conv2d
from zfkernels.windows import Layout, Windows

VARIANTS = ops.cpu_variants()
# Channels in and out, groups, kernel, side of the windows: blocks of 32 whole and not, pairs of numbers over two taps,
# rows of one and of several blocks, many outputs.
SHAPES = [
    (8, 8, 1, 3, 4), (3, 5, 1, 7, 6), (16, 64, 1, 3, 5), (64, 64, 1, 1, 4), (33, 47, 1, 3, 3), (32, 40, 4, 3, 6),
    (24, 24, 24, 3, 5), (1, 1, 1, 1, 1), (32, 96, 1, 3, 14), (200, 35, 1, 3, 9),
]  # fmt: skip
FRAME = 15


def windows(channels: int, side: int) -> tuple[Windows, Tensor]:
    """Windows at the corners and inside of frames of two images."""
    far = FRAME - side
    boxes = torch.tensor([[0, 0, side, side], [far, far, side, side], [far // 2, 0, side, 1], [0, 0, 0, 0]])
    layout = Layout.of(boxes.int(), torch.tensor([1, 0, 1, 0]), (FRAME, FRAME))
    return layout.windows(torch.randn(layout.cells, channels)), torch.randn(2, channels, FRAME, FRAME)


def numbers(shape: tuple[int, int, int, int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """What bfloat16 makes of a convolution, the truth, and the truth rounded once."""
    channels, outputs, groups, kernel, side = shape
    torch.manual_seed(0)
    given, frames = windows(channels, side)
    weight = torch.randn(outputs, channels // groups, kernel, kernel) / kernel
    bias = torch.randn(outputs)
    layer = {"padding": kernel // 2, "groups": groups, "relu": True}

    def run(dtype: torch.dtype, backend: str) -> Tensor:
        parts = [part.bfloat16().to(dtype) for part in (given.values, frames, weight, bias)]
        there = Windows(parts[0], given.boxes, given.offsets, given.image, given.frame)
        return window_conv2d(there, *parts[1:], **layer, backend=backend).values

    truth = run(torch.float64, "reference")
    return run(torch.bfloat16, "cpp"), truth, truth.bfloat16()


def assert_rounded_once() -> None:
    for shape in SHAPES:
        found, truth, rounded = numbers(shape)
        assert found.dtype == torch.bfloat16
        assert rms(found.double() - truth) <= 1.5 * rms(rounded.double() - truth), shape


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_convolution_is_rounded_once(variant: str) -> None:
    code = "import test_bfloat16 as t; assert t.VARIANTS[-1] == '" + variant + "'; t.assert_rounded_once()"
    paths = os.pathsep.join([os.path.dirname(__file__), *sys.path])
    environment = os.environ | {"ZFKERNELS_CPU_VARIANT": variant, "PYTHONPATH": paths}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


@pytest.mark.cpp
@pytest.mark.skipif(not VARIANTS, reason="the C++ kernels are not built")
def test_infinities_and_nan_stay_where_they_are() -> None:
    given, frames = windows(40, 6)
    given.values[3, 17], given.values[10, 2] = float("nan"), float("inf")
    weight = torch.ones(33, 40, 1, 1)
    parts = [part.bfloat16() for part in (given.values, frames, weight)]
    there = Windows(parts[0], given.boxes, given.offsets, given.image, given.frame)
    found = window_conv2d(there, parts[1], parts[2], relu=True, backend="cpp").values
    assert found[3].isnan().all()
    assert found[10].isposinf().all()
    assert found[[0, 1, 2, 4, 9, 11]].isfinite().all()


@pytest.mark.cpp
@pytest.mark.skipif(not VARIANTS, reason="the C++ kernels are not built")
def test_an_occluded_convolution_is_rounded_once() -> None:
    torch.manual_seed(0)
    images, weight, bias = torch.randn(1, 3, 40, 40), torch.randn(20, 3, 7, 7) / 7, torch.randn(20)
    boxes = torch.tensor([[0, 0, 9, 9], [20, 31, 9, 9], [12, 12, 9, 9]], dtype=torch.int32)
    narrow, wide = (
        [part.bfloat16().to(dtype) for part in (images, weight, bias)] for dtype in (torch.bfloat16, torch.float64)
    )
    fill, layer = 0.5, {"stride": 2, "padding": 3}
    truth = occluded_conv2d(*wide, boxes, fill=fill, **layer, backend="reference").values
    found = occluded_conv2d(*narrow, boxes, fill=fill, **layer, backend="cpp").values
    assert rms(found.double() - truth) <= 1.5 * rms(truth.bfloat16().double() - truth)


def test_variants_come_from_narrow_to_wide() -> None:
    order = ["baseline", "avx2", "avx512", "avx512_bf16", "amx_bf16"]
    assert all(order.index(narrow) < order.index(wide) for narrow, wide in pairwise(VARIANTS))

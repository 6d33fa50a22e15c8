"""What the kernels move on shapes of ZFNet, counted: budgets of sectors, bank conflicts and work, nothing about time.

Runs with SIMT_WAY=recorded; test_builds.py starts it. The shapes have ZFNet's geometry with fewer channels and images:
neither changes what a block does with a chunk of channels.
"""

from __future__ import annotations

import ctypes
from typing import Any

import pytest
import torch
from emulation import record
from launches import excess
from support.chains import Shape, occluded
from support.chains import stage as chained_stage
from support.comparing import call
from support.maker import Maker

from zfkernels.windows import Layout

LIMIT = 1.25


def make(dtype: torch.dtype) -> Maker:
    return Maker(dtype, "cpu", "normal", "channels_last")


def stage(dtype: torch.dtype, channels: tuple[int, int], size: int, kernel: int) -> dict[str, Any]:
    maker, unpooled = make(dtype), (size + 2 - kernel) // 2 + 1
    pool = (3, 2, 0, 1, True)
    switches = maker.switches(1, channels[0], (unpooled, unpooled), pool)
    return {
        "values": maker.maps(*switches.shape), "switches": switches,
        "weight": maker.normal(channels[0], channels[1], kernel, kernel), "stride": 2, "padding": 1,
        "output_size": (size, size), "pool_kernel_size": 3, "pool_stride": 2,
    }  # fmt: skip


def squares(maker: Maker, size: int, frame: int, count: int) -> torch.Tensor:
    origins = maker.origins(count, (size, size), (frame, frame))
    return torch.cat([origins, torch.full_like(origins, size)], 1)


def windows(maker: Maker, channels: int, size: int, frame: int, count: int = 2) -> dict[str, Any]:
    layout = Layout.of(squares(maker, size, frame, count), torch.zeros(count, dtype=torch.int64), (frame, frame))
    return {
        "windows": layout.windows(maker.normal(layout.cells, channels)),
        "frames": maker.maps(1, channels, frame, frame),
    }


def shapes(dtype: torch.dtype) -> dict[str, tuple[str, dict[str, Any]]]:
    maker = make(dtype)
    return {
        "pixel stage": ("unpool_relu_conv_transpose2d", stage(dtype, (32, 3), 64, 7)),
        "wide stage": ("unpool_relu_conv_transpose2d", stage(dtype, (32, 64), 35, 5)),
        "occlusion": (
            "occluded_conv2d",
            {
                "images": maker.maps(1, 3, 112, 112), "weight": maker.normal(64, 3, 7, 7), "bias": maker.normal(64),
                "boxes": squares(maker, 32, 112, 2), "stride": 2, "padding": 1,
            },
        ),
        "window convolution": (
            "window_conv2d",
            windows(maker, 32, 12, 55) | {"weight": maker.normal(64, 32, 3, 3), "padding": 1},
        ),
        "window pooling": ("window_max_pool2d", windows(maker, 64, 16, 55) | {"kernel_size": 3, "stride": 2}),
        "pooling": ("max_pool2d_with_switches", {"input": maker.maps(1, 64, 27, 27), "kernel_size": 3, "stride": 2}),
    }  # fmt: skip


NAMES = list(shapes(torch.float32))
_records: dict[tuple[str, torch.dtype], dict[str, Any]] = {}


def recorded(simt: ctypes.CDLL, name: str, dtype: torch.dtype) -> dict[str, Any]:
    if (name, dtype) not in _records:
        op, arguments = shapes(dtype)[name]
        _records[name, dtype] = record(simt, lambda: call(op, arguments, "cuda"))
    return _records[name, dtype]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=["float32", "float16"])
@pytest.mark.parametrize("name", NAMES)
def test_memory_is_moved_in_whole_sectors_without_bank_conflicts(
    simt: ctypes.CDLL, name: str, dtype: torch.dtype
) -> None:
    report = recorded(simt, name, dtype)
    assert report["faults"] == {}
    ratios = excess(report)
    assert len(ratios) >= 2
    assert {key: round(ratio, 2) for key, ratio in ratios.items() if ratio > LIMIT} == {}


# Multiply-adds of the kernel over those of the chain, which multiplies by the zeros of the unpooled map too: tiles of
# 64 pixels by 64 outputs and whole chunks of channels cost more; one constant for the inside of a square costs less. As
# counted.
CHAINS = [
    (chained_stage("3x3", (32, 64), 3, 1, 57, 2), 1.3),
    (chained_stage("5x5 stride 2", (32, 64), 5, 2, 83, 3), 1.2),
    (chained_stage("pixels", (32, 3), 7, 2, 123, 3), 1.9),
    (occluded("7x7 stride 2", 64, 7, 2, 64, 16), 0.2),
    (occluded("3x3", 64, 3, 1, 40, 16), 0.2),
]


@pytest.mark.parametrize(("shape", "products"), CHAINS, ids=[f"{shape.op}-{shape.name}" for shape, _ in CHAINS])
def test_less_is_moved_than_by_the_unfused_chain(simt: ctypes.CDLL, shape: Shape, products: float) -> None:
    """All launches together, the packing of the filters among them, each sector counted once."""
    report = record(simt, lambda: call(shape.op, shape.arguments, "cuda"))
    moved = report["cold_read"] + report["cold_written"]
    done = sum(launch["multiply_adds"] for launch in report["launches"])
    saved, extra = (shape.floor + shape.unfused) / moved, done / shape.multiply_adds
    print(f"{shape.op} {shape.name}: {moved / shape.floor:.2f}x the floor, saved {saved:.2f}x, products {extra:.2f}x")
    assert moved <= 1.5 * shape.floor
    assert saved > 1
    assert extra <= products

"""What the two hot kernels read and write, counted in the interpreter: against the floor and the unfused chain."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

import pytest
import strict
import torch
from comparing import call
from torch import Tensor
from torch.utils import _pytree as pytree

from zfkernels import ops


@dataclass(frozen=True)
class Shape:
    """A call, what the unfused chain of PyTorch moves for it besides the floor, and what was counted."""

    op: str
    name: str
    arguments: dict[str, Any]
    unfused: int  # bytes between the steps of the chain
    recorded: tuple[float, float]  # distinct bytes, and bytes of all programs, over the floor

    @property
    def floor(self) -> int:
        """Each input read once and each output written once."""
        outputs = call(self.op, self.arguments, "reference")[:1]
        inputs = [t for t in pytree.tree_leaves(self.arguments) if isinstance(t, Tensor)]
        return sum(t.nbytes for t in (*inputs, *outputs))


def stage(
    name: str, channels: tuple[int, int], kernel: int, stride: int, size: int, pool: int, recorded: tuple[float, float]
) -> Shape:
    """Unfused: indices of eight bytes, the unpooled map written, read, rectified, written and read again."""
    above, below = channels
    maps = torch.randn(1, above, (size - kernel) // stride + 1, (size - kernel) // stride + 1).half()
    values, switches = ops.max_pool2d_with_switches(maps, pool, 2, backend="reference")
    last = {"memory_format": torch.channels_last}
    arguments = {
        "values": values.contiguous(**last), "switches": switches.contiguous(**last),
        "weight": torch.randn(above, below, kernel, kernel).half(), "pool_kernel_size": pool, "pool_stride": 2,
        "stride": stride, "output_size": (size, size), "unpooled_size": maps.shape[2:],
    }  # fmt: skip
    return Shape("unpool_relu_conv_transpose2d", name, arguments, 7 * switches.nbytes + 4 * maps.nbytes, recorded)


def occluded(
    name: str, outputs: int, kernel: int, stride: int, size: int, square: int, recorded: tuple[float, float]
) -> Shape:
    """Unfused: every occluded image written and read."""
    rows = torch.arange(0, size - square + 1, 16, dtype=torch.int32)
    positions = torch.cartesian_prod(rows, rows)
    images = torch.randn(1, 3, size, size).half()
    arguments = {
        "images": images, "weight": torch.randn(outputs, 3, kernel, kernel).half(),
        "bias": torch.randn(outputs).half(), "positions": positions, "window": square, "stride": stride, "relu": True,
    }  # fmt: skip
    return Shape("occluded_conv2d", name, arguments, 2 * len(positions) * images.nbytes, recorded)


SHAPES = (
    stage("3x3", (32, 16), 3, 1, 21, 2, (1.01, 3.31)),
    stage("5x5 stride 2", (32, 16), 5, 2, 31, 3, (1.19, 3.1)),
    stage("pixels", (32, 3), 7, 2, 31, 3, (1.38, 4.21)),
    occluded("7x7 stride 2", 32, 7, 2, 48, 16, (1.07, 2.28)),
    occluded("3x3", 32, 3, 1, 40, 16, (0.98, 1.12)),
    occluded("11x11 stride 4", 32, 11, 4, 64, 24, (1.17, 3.73)),
)


@pytest.fixture
def _tiles_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a program owns on a GPU, in place of the larger tiles that the interpreter gets."""
    stage, occluded = (
        importlib.import_module(f"zfkernels.ops.{op}.triton_kernel")
        for op in ("unpool_relu_conv_transpose2d", "occluded_conv2d")
    )
    monkeypatch.setattr(stage, "INTERPRETED", False)
    monkeypatch.setattr(occluded, "ROWS", 128)


@pytest.mark.usefixtures("_tiles_of_a_gpu")
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{shape.op}-{shape.name}")
def test_traffic(shape: Shape, record_property: Any) -> None:
    with strict.watch() as launches:
        call(shape.op, shape.arguments, "triton")
    (launch,) = launches
    moved = [*launch.loads.values(), *launch.stores.values()]
    cold, programs = (sum(getattr(t, name) for t in moved) for name in ("cold", "programs"))
    saved = (shape.floor + shape.unfused) / cold
    report = f"cold {cold / shape.floor:.3f}x the floor, programs {programs / shape.floor:.3f}x, saved {saved:.2f}x"
    record_property("traffic", report)
    print(f"\n{shape.op} {shape.name}: {report}")
    assert cold <= min(1.5, shape.recorded[0]) * shape.floor
    assert programs <= shape.recorded[1] * shape.floor
    assert saved > 1

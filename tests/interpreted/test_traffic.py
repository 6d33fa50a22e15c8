"""What the two hot kernels read and write, counted in the interpreter: against the floor and the unfused chain."""

from __future__ import annotations

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
    """A call, what the unfused chain of PyTorch moves for it besides the floor, and the bound on re-reads."""

    op: str
    name: str
    arguments: dict[str, Any]
    unfused: int  # bytes between the steps of the chain
    rereads: float  # bytes of all programs over the floor, as recorded

    @property
    def floor(self) -> int:
        """Each input read once and each output written once."""
        outputs = call(self.op, self.arguments, "reference")[:1]
        inputs = [t for t in pytree.tree_leaves(self.arguments) if isinstance(t, Tensor)]
        return sum(t.nbytes for t in (*inputs, *outputs))


def stage(
    name: str, channels: tuple[int, int], kernel: int, stride: int, size: int, pool: int, rereads: float
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
    return Shape("unpool_relu_conv_transpose2d", name, arguments, 7 * switches.nbytes + 4 * maps.nbytes, rereads)


def occluded(name: str, outputs: int, kernel: int, stride: int, size: int, square: int, rereads: float) -> Shape:
    """Unfused: every occluded image written and read."""
    rows = torch.arange(0, size - square + 1, 16, dtype=torch.int32)
    positions = torch.cartesian_prod(rows, rows)
    images = torch.randn(1, 3, size, size).half()
    arguments = {
        "images": images, "weight": torch.randn(outputs, 3, kernel, kernel).half(),
        "bias": torch.randn(outputs).half(), "positions": positions, "window": square, "stride": stride, "relu": True,
    }  # fmt: skip
    return Shape("occluded_conv2d", name, arguments, 2 * len(positions) * images.nbytes, rereads)


SHAPES = (
    stage("3x3", (32, 16), 3, 1, 29, 2, 8.0),
    stage("5x5 stride 2", (32, 16), 5, 2, 43, 3, 8.0),
    stage("pixels", (32, 3), 7, 2, 43, 3, 40.0),
    occluded("7x7 stride 2", 32, 7, 2, 64, 16, 3.0),
    occluded("3x3", 32, 3, 1, 40, 16, 3.0),
    occluded("11x11 stride 4", 32, 11, 4, 96, 24, 3.0),
)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{shape.op}-{shape.name}")
def test_traffic(shape: Shape, record_property: Any) -> None:
    with strict.watch() as launches:
        call(shape.op, shape.arguments, "triton")
    (launch,) = launches
    moved = [*launch.loads.values(), *launch.stores.values()]
    cold, programs = (sum(getattr(t, name) for t in moved) for name in ("cold", "programs"))
    saved = (shape.floor + shape.unfused) / cold
    report = f"cold {cold / shape.floor:.2f}x the floor, programs {programs / shape.floor:.2f}x, saved {saved:.2f}x"
    record_property("traffic", report)
    print(f"\n{shape.op} {shape.name}: {report}")
    assert cold <= 1.5 * shape.floor
    assert programs <= shape.rereads * shape.floor
    assert saved > 1

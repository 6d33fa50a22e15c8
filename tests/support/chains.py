"""Calls of the hot ops, and what the unfused chain of PyTorch moves for them besides the floor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from support.comparing import call
from zfkernels import ops


@dataclass(frozen=True)
class Shape:
    """A call, what the unfused chain of PyTorch moves for it besides the floor."""

    op: str
    name: str
    arguments: dict[str, Any]
    unfused: int  # bytes between the steps of the chain
    multiply_adds: int  # of the chain

    @property
    def floor(self) -> int:
        """Each input read once and each output written once."""
        outputs = call(self.op, self.arguments, "reference")[:1]
        inputs = [t for t in pytree.tree_leaves(self.arguments) if isinstance(t, Tensor)]
        return sum(t.nbytes for t in (*inputs, *outputs))


def stage(name: str, channels: tuple[int, int], kernel: int, stride: int, size: int, pool: int) -> Shape:
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
    products = maps.numel() * below * kernel**2
    moved = 7 * switches.nbytes + 4 * maps.nbytes
    return Shape("unpool_relu_conv_transpose2d", name, arguments, moved, products)


def occluded(name: str, outputs: int, kernel: int, stride: int, size: int, square: int) -> Shape:
    """Unfused: every occluded image written and read."""
    rows = torch.arange(0, size - square + 1, 16, dtype=torch.int64)
    boxes = torch.cartesian_prod(rows, rows, torch.tensor([square]), torch.tensor([square])).int()
    images = torch.randn(1, 3, size, size).half()
    arguments = {
        "images": images, "weight": torch.randn(outputs, 3, kernel, kernel).half(),
        "bias": torch.randn(outputs).half(), "boxes": boxes, "stride": stride, "relu": True,
    }  # fmt: skip
    out = (size - kernel) // stride + 1
    products = len(boxes) * outputs * out**2 * 3 * kernel**2  # of whole occluded images
    return Shape("occluded_conv2d", name, arguments, 2 * len(boxes) * images.nbytes, products)

"""What every launch of a Triton kernel needs: the type of its indices, its precision and the sizes of its tiles."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from zfkernels.ops import _triton_interpreter

INTERPRETED = triton.knobs.runtime.interpret  # takes its time per operation, not per element: larger blocks
if INTERPRETED:
    _triton_interpreter.mend()


def elements() -> int:
    """Of a tile of a kernel without dot."""
    return 2**14 if INTERPRETED else 2**10


def product_rows() -> int:
    """Of a tile of a matrix product."""
    return 512 if INTERPRETED else 128


def index_type(*tensors: Tensor | None) -> tl.dtype:
    """int32, or int64 where an offset into one of the tensors needs it."""
    for tensor in tensors:
        if tensor is not None and _span(tensor) >= 2**31:
            return tl.int64
    return tl.int32


def _span(tensor: Tensor) -> int:
    return 1 + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))


def dot_precision() -> str:
    """``input_precision`` of a ``tl.dot`` of float32: PyTorch's own setting for convolutions."""
    precision = torch.backends.cudnn.conv.fp32_precision  # type: ignore[attr-defined]
    return "tf32" if precision == "tf32" else "ieee"


def channels_last(maps: Tensor) -> Tensor:
    """The maps [N, C, H, W] with their channels side by side; a copy only where they lie otherwise."""
    return maps.contiguous(memory_format=torch.channels_last)


def dense(tensor: Tensor | None) -> Tensor | None:
    """The numbers side by side; a copy only where they lie otherwise."""
    return None if tensor is None else tensor.contiguous()


def power_of_two(value: int, least: int, most: int) -> int:
    """The smallest power of two that is at least ``value``, within limits."""
    return min(max(triton.next_power_of_2(value), least), most)


def shape_class(op: str, dtype: torch.dtype, rows: int, columns: int, channels: int, *geometry: int) -> str:
    """Names the shapes that share their best tile: sizes count by their power of two."""
    sizes = "x".join(str(triton.next_power_of_2(max(size, 1))) for size in (rows, columns, channels))
    return "/".join([op, str(dtype).removeprefix("torch."), sizes, "-".join(map(str, geometry))])


@dataclass(frozen=True)
class MatrixTile:
    """What one program of a matrix product owns: rows x columns, ``block_k`` products of each sum at a time."""

    rows: int
    columns: int
    block_k: int
    warps: int = 8
    stages: int = 3


def matrix_tiles(rows: int, columns: int, block_k: int, stages: int, *, products: bool) -> list[MatrixTile]:
    """The tiles worth measuring, the default first; with fewer columns for small grids and narrow layers.

    Without matrix instructions (``products``) what is unrolled has to stay small.
    """
    default = MatrixTile(rows, power_of_two(columns, 16, 128), block_k, 8, stages)
    if INTERPRETED:
        return [default]
    if not products:
        return [MatrixTile(64, power_of_two(columns, 16, 32), 16, 8, 1)]
    narrow = power_of_two(columns, 16, 64)
    others = [MatrixTile(rows, narrow, block_k, 4, stages), MatrixTile(rows // 2, default.columns, block_k, 4, stages)]
    return list(dict.fromkeys([default, *others]))


@dataclass(frozen=True)
class Launch:
    """A launch that was written down in place of being run."""

    kernel: Any
    grid: tuple[int, ...]
    args: tuple[Any, ...]
    options: dict[str, Any] = field(default_factory=dict)


AMD, AMPERE, HOPPER = 0, 80, 90
_recorded: ContextVar[list[Launch] | None] = ContextVar("zfkernels_recorded_launches", default=None)
_capability: ContextVar[int | None] = ContextVar("zfkernels_recorded_capability", default=None)


@contextlib.contextmanager
def record(capability: int | None = None) -> Iterator[list[Launch]]:
    """Inside, kernels are not launched: the list that is yielded says what would have been, on any device.

    ``capability`` is that of the GPU to choose tiles for, such as 90, or AMD.
    """
    launches: list[Launch] = []
    tokens = _recorded.set(launches), _capability.set(capability)
    try:
        yield launches
    finally:
        _recorded.reset(tokens[0])
        _capability.reset(tokens[1])


def warpgroup_products(device: torch.device) -> bool:
    """Whether the left operand of a product stays out of the registers: sm_90 and sm_100, not sm_120 or AMD."""
    capability = _capability_of(device)
    return capability is None or HOPPER <= capability < 120


def tensor_products(maps: Tensor) -> bool:
    """Whether Triton has matrix instructions for a ``tl.dot`` of such maps: float32 as tf32 only, none before sm_80."""
    if maps.dtype == torch.float32 and dot_precision() != "tf32":
        return False
    capability = _capability_of(maps.device)
    return capability is None or capability >= AMPERE or capability == AMD


def _capability_of(device: torch.device) -> int | None:
    """Such as 90, or AMD; None: not known, nothing will run."""
    capability = _capability.get()
    if capability is None and device.type == "cuda" and torch.cuda.is_available():
        major, minor = torch.cuda.get_device_capability(device)
        capability = AMD if torch.version.hip else 10 * major + minor
    return capability


def launch(kernel: Any, grid: tuple[int, ...], like: Tensor, *args: Any, **options: Any) -> None:
    """Launches ``kernel`` on the device of ``like``, unless there is nothing to do."""
    recorded = _recorded.get()
    if not all(grid):
        return
    if recorded is not None:
        recorded.append(Launch(kernel, grid, args, options))
        return
    with torch.cuda.device_of(like):
        kernel[grid](*args, **options)

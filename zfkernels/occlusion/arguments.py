"""What the arguments of a sweep mean: checked, and as the engine takes them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from zfkernels.checks import as_int
from zfkernels.geometry import Pair

NAME = "occlusion_sweep"


def grid(image: Pair, window: Pair, stride: Pair) -> Tensor:
    """Positions of the square, int64 [rows, cols, 2]: rows ``i * stride`` for i = 0 … ceil((H - h) / stride)."""
    axes = [torch.arange(-(-(image[a] - window[a]) // stride[a]) + 1) * stride[a] for a in (0, 1)]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)


def to_pair(name: str, argument: str, value: Any) -> Pair:
    """An int or a pair of ints of at least 1, as (rows, columns)."""
    value = as_int(value)
    pair = (value, value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(pair, (tuple, list)) or len(pair) != 2 or not all(isinstance(v, int) for v in pair):
        raise TypeError(f"{name}: expected {argument} an int or a pair of ints, got {value!r}")
    if min(pair) < 1:
        raise ValueError(f"{name}: expected {argument} at least 1, got {value!r}")
    return pair[0], pair[1]


def targets_of(targets: Any, device: torch.device) -> Tensor:
    classes = targets.tolist() if isinstance(targets, Tensor) else as_int(targets)
    classes = classes if isinstance(classes, (list, tuple, range)) else [classes]
    if not all(isinstance(target, int) and not isinstance(target, bool) for target in classes):
        raise TypeError(f"{NAME}: expected targets a class or a list of classes, got {targets!r}")
    return torch.tensor(classes, dtype=torch.int64, device=device)


def dtype_of(precision: torch.dtype | str) -> torch.dtype:
    dtype = getattr(torch, precision, None) if isinstance(precision, str) else precision
    if dtype not in (torch.bfloat16, torch.float16, torch.float32, torch.float64):
        raise ValueError(f"{NAME}: expected precision None or a floating dtype such as 'bfloat16', got {precision!r}")
    return dtype


def check_positive(method: str, argument: str, number: Any) -> None:
    """Raises ValueError for what is neither a positive int nor None."""
    if number is not None and (not isinstance(number, int) or isinstance(number, bool) or number < 1):
        raise ValueError(f"{method}: expected {argument} a positive int or None, got {number!r}")


def check_finite(method: str, images: Tensor) -> None:
    """Raises ValueError for images with NaN or infinity: a ReLU inside a product may lose a NaN."""
    if not images.isfinite().all():
        raise ValueError(f"{method}: expected images of finite values, got NaN or infinity")

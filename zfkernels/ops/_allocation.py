"""Tensors for results, laid out in memory as the inputs are."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def memory_format(like: Tensor) -> torch.memory_format:
    """The format of a result that follows ``like``: channels last if only that fits, else contiguous."""
    last = not like.is_contiguous() and like.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format


def empty_like_format(like: Tensor, size: Sequence[int]) -> Tensor:
    """An empty tensor of ``size`` in the memory format of ``like``."""
    return torch.empty(tuple(size), dtype=like.dtype, device=like.device, memory_format=memory_format(like))

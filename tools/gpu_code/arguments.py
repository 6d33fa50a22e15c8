"""Numbers for the arguments of a headline case that have memory."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from gpu_code.cases import Case
from gpu_code.window_cases import WindowCase


def numbers(case: Case, flat: tuple[Any, ...], *, maps: bool = True) -> tuple[Any, ...]:
    """Fills the arguments of a case: maps (or not) with normal numbers, switches with cells, places with places."""
    device = next(part.device for part in flat if isinstance(part, Tensor))
    generator = torch.Generator(device).manual_seed(0)
    for tensor in pytree.tree_leaves(flat):
        if isinstance(tensor, Tensor) and tensor.is_floating_point() and maps:
            tensor.normal_(generator=generator)
        elif isinstance(tensor, Tensor) and tensor.dtype == torch.uint8:
            kernel = flat[12] if isinstance(case, WindowCase) else flat[3]  # of the pooling
            tensor.random_(kernel[0] * kernel[1], generator=generator)
    if isinstance(case, WindowCase):
        case.fill(flat, generator)
    return flat

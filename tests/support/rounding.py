"""What rounding alone may do to a network, found in float64: no run is measured against another run's luck."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


def rms(values: Tensor) -> float:
    """The root mean square."""
    return values.double().square().mean().sqrt().item()


@contextmanager
def rounded_sums(model: nn.Module, dtype: torch.dtype) -> Iterator[None]:
    """Adds to each convolution's and linear layer's output, in float64, what summing its terms in ``dtype`` adds.

    A sum of K terms, one after the other, rounds K partial sums. These grow like sqrt(k) on the way to a result of
    root mean square s, and each rounding has the standard deviation eps / sqrt(12) of its partial sum: together
    eps s sqrt(K / 24). The errors are drawn independently, with a fixed seed.
    """
    generator = torch.Generator().manual_seed(0)

    def rounded(module: nn.Module, _: Any, output: Tensor) -> Tensor:
        terms = module.get_parameter("weight")[0].numel() + 1
        error = torch.finfo(dtype).eps * math.sqrt(terms / 24) * output.square().mean().sqrt()
        return output + error * torch.randn(output.shape, generator=generator, dtype=output.dtype)

    layers = [module for module in model.modules() if isinstance(module, (nn.Conv2d, nn.Linear))]
    handles = [layer.register_forward_hook(rounded) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()

"""Convolutions and matrix products by the fastest library, with a function of each number of the result in one pass.

On a CPU that is oneDNN, for convolutions with windows of one cell and for matrix products too, which PyTorch gives to
MKL or to loops of its own (benchmarks/notes/matrix_products.md); elsewhere PyTorch chooses.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from zfkernels.geometry import Sliding
from zfkernels.network.kinds.base import arguments, op_name
from zfkernels.network.recording import Step


@dataclass(frozen=True)
class Activation:
    """A function of each number.

    Attributes:
        name: oneDNN's name for it.
        numbers: its parameters.
        algorithm: which of several forms of it.
        in_place: the function itself, which overwrites its argument.
    """

    name: str
    numbers: tuple[float, ...]
    algorithm: str
    in_place: Callable[[Tensor], Tensor]


RELU = Activation("relu", (), "", torch.relu_)


def activation_of(step: Step) -> Activation | None:
    """What ``step`` does to each number of its one input, None if oneDNN has no such function."""
    name, bound = op_name(step), arguments(step)
    if len(step.inputs) != 1 or step.kwargs:
        return None
    if name == "silu":
        return Activation("swish", (), "", lambda x: F.silu(x, inplace=True))
    if name == "hardswish":
        return Activation("hardswish", (), "", lambda x: F.hardswish(x, inplace=True))
    if name == "relu6":
        return _clamp(0.0, 6.0)
    if name == "hardtanh":
        return _clamp(float(bound["min_val"]), float(bound["max_val"]))
    return None


def _clamp(low: float, high: float) -> Activation:
    return Activation("hardtanh", (low, high), "", lambda x: F.hardtanh(x, low, high, inplace=True))


def convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None, layer: Sliding, groups: int, activation: Activation | None
) -> Tensor:
    """``F.conv2d``, then the activation.

    Args:
        x: [N, C, H, W].
        weight: [C_out, C / groups, kh, kw].
        bias: [C_out] or None.
        layer: the geometry.
        groups: number of groups.
        activation: what follows, or None.
    """
    if _by_onednn(x):
        return torch.ops.mkldnn._convolution_pointwise(
            x, weight, bias, layer.padding, layer.stride, layer.dilation, groups, *_attributes(activation)
        )
    out = F.conv2d(x, weight, bias, layer.stride, layer.padding, layer.dilation, groups)
    return out if activation is None else activation.in_place(out)


def multiply(x: Tensor, weight: Tensor, bias: Tensor | None, activation: Activation | None = None) -> Tensor:
    """``F.linear`` of x [..., C] and weight [C_out, C], then the activation."""
    if _by_onednn(x):
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, *_attributes(activation))
    out = F.linear(x, weight, bias)
    return out if activation is None else activation.in_place(out)


def _by_onednn(x: Tensor) -> bool:
    """These functions of torch have no gradient."""
    return bool(
        x.device.type == "cpu"
        and x.dtype in (torch.float32, torch.bfloat16)
        and x.numel() > 0
        and torch.backends.mkldnn.is_available()
        and torch.backends.mkldnn.enabled
        and not torch.is_grad_enabled()
    )


def _attributes(activation: Activation | None) -> tuple[Any, ...]:
    if activation is None:
        return "none", [], ""
    return activation.name, list(activation.numbers), activation.algorithm

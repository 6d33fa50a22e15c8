"""Argument checks that the ops share; every message reads ``<op>: expected <argument> <what>, got <value>``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, wraps
from typing import Any

import torch
from torch import Tensor

from zfkernels.geometry import Pair, Sliding

_TOLD_APART = frozenset({torch.Size, int, bool, str, type(None)})  # by their hash, equality and own type
FLOATING = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def remembered(check: Callable[..., Any]) -> Callable[..., Any]:
    """``check``, whose answers for the same sizes and ints are kept: most calls are of a layer that was seen before.

    Kept by value and type, so that True is not taken for 1. Other sequences than sizes may hide the types of what they
    hold, or change, and are checked anew, and so is everything while a graph is traced.
    """
    known = lru_cache(maxsize=1024, typed=True)(check)

    @wraps(check)
    def answer(*args: Any) -> Any:
        if torch.compiler.is_compiling() or not _TOLD_APART.issuperset(map(type, args)):
            return check(*args)
        try:
            hash(args)
        except TypeError:  # a size has a symbol in it
            return check(*args)
        return known(*args)

    return answer


def pair(op: str, argument: str, value: Any, *, minimum: int) -> Pair:
    """An int, or a sequence of one or two, as ``(rows, columns)``."""
    if type(value) is int and value >= minimum:  # what most callers give, at once
        return value, value
    items = tuple(value) if isinstance(value, Sequence) else (value,)
    if len(items) == 1:
        items *= 2
    if len(items) != 2 or not (_is_int(items[0]) and _is_int(items[1])):
        raise TypeError(f"{op}: expected {argument} an int or a pair of ints, got {value!r}")
    if items[0] < minimum or items[1] < minimum:
        raise ValueError(f"{op}: expected {argument} at least {minimum}, got {value!r}")
    return items


def _is_int(value: Any) -> bool:
    return isinstance(value, (int, torch.SymInt)) and not isinstance(value, bool)


def tensor(op: str, argument: str, value: Any, shape: str, dtypes: Sequence[torch.dtype] = FLOATING) -> Tensor:
    """A dense tensor of one of ``dtypes`` whose number of dimensions is that of ``shape``, such as ``[N, C, H, W]``."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{op}: expected {argument} a tensor {shape}, got {type(value).__name__}")
    dense(op, argument, value)
    if value.dtype not in dtypes:
        names = ", ".join(str(d).removeprefix("torch.") for d in dtypes)
        raise TypeError(f"{op}: expected {argument} of dtype {names}, got {value.dtype}")
    size = value.shape
    if len(size) != shape.count(",") + 1:
        raise ValueError(f"{op}: expected {argument} of shape {shape}, got {tuple(size)}")
    if 0 in size[1:]:
        raise ValueError(f"{op}: expected {argument} {shape} with nothing but the first empty, got {tuple(size)}")
    return value


def switches(op: str, value: Any) -> Tensor:
    """The uint8 switches [N, C, Hp, Wp] of a pooling; the indices that torch's pooling returns get a remedy."""
    if isinstance(value, Tensor) and value.dtype == torch.int64:
        raise TypeError(
            f"{op}: expected switches of dtype uint8, got torch.int64; indices of F.max_pool2d become switches with "
            f"indices_to_switches"
        )
    return tensor(op, "switches", value, "[N, C, Hp, Wp]", (torch.uint8,))


def dense(op: str, argument: str, value: Tensor) -> None:
    """A tensor with a place in memory for each element."""
    if value.layout is not torch.strided:
        raise TypeError(f"{op}: expected {argument} a dense tensor, got one of layout {value.layout}")


def same(op: str, argument: str, value: Tensor, other_argument: str, other: Tensor, *, dtype: bool = True) -> None:
    """``value`` on the device (and of the dtype) of ``other``."""
    if value.device != other.device:
        raise ValueError(
            f"{op}: expected {argument} on the device of {other_argument}, {other.device}, got {value.device}"
        )
    if dtype and value.dtype != other.dtype:
        raise TypeError(f"{op}: expected {argument} of the dtype of {other_argument}, {other.dtype}, got {value.dtype}")


def equal(op: str, argument: str, value: Any, expected: Any) -> None:
    """``value == expected``, for shapes and counts."""
    if value != expected:
        raise ValueError(f"{op}: expected {argument} {expected}, got {value}")


def choice(op: str, argument: str, value: Any, choices: Sequence[str]) -> None:
    """``value`` one of ``choices``."""
    if value not in choices:
        raise ValueError(f"{op}: expected {argument} one of {tuple(choices)}, got {value!r}")


def flag(op: str, argument: str, value: Any) -> None:
    """A bool."""
    if not isinstance(value, bool):
        raise TypeError(f"{op}: expected {argument} a bool, got {value!r}")


def convolution(op: str, weight: Tensor, stride: Any, padding: Any, dilation: Any) -> Sliding:
    """The checked geometry of a convolution with ``weight`` [C_out, C_in / groups, kh, kw]."""
    return Sliding(
        (weight.shape[2], weight.shape[3]),
        pair(op, "stride", stride, minimum=1),
        pair(op, "padding", padding, minimum=0),
        pair(op, "dilation", dilation, minimum=1),
    )


def per_window(
    op: str, argument: str, value: Any, shape: str, dtypes: Sequence[torch.dtype], other_argument: str, other: Tensor
) -> None:
    """[P] or [P, 2], one row for each of ``other``."""
    tensor(op, argument, value, shape, dtypes)
    same(op, argument, value, other_argument, other, dtype=False)
    equal(op, f"the shape of {argument}", tuple(value.shape), (other.shape[0], 2)[: value.dim()])


def divisor(op: str, groups: Any, *channels: int) -> None:
    """``groups`` divides the numbers of channels."""
    if not isinstance(groups, int) or isinstance(groups, bool):
        raise TypeError(f"{op}: expected groups an int, got {groups!r}")
    if groups < 1 or any(c < 1 or c % groups for c in channels):
        raise ValueError(
            f"{op}: expected groups a divisor of {' and '.join(map(str, channels))} channels, got {groups}"
        )


def filters(op: str, weight: Any, bias: Any, input_name: str, input: Tensor, groups: int) -> None:
    """weight [C_out, C / groups, kh, kw] and bias [C_out] that fit ``input`` [N, C, H, W]."""
    tensor(op, "weight", weight, "[C_out, C / groups, kh, kw]")
    same(op, "weight", weight, input_name, input)
    divisor(op, groups, input.shape[1], weight.shape[0])
    equal(op, "weight's second dimension, channels / groups,", weight.shape[1], input.shape[1] // groups)
    if bias is not None:
        tensor(op, "bias", bias, "[C_out]")
        same(op, "bias", bias, input_name, input)
        equal(op, "bias's shape", tuple(bias.shape), (weight.shape[0],))


def layer_output(op: str, argument: str, layer: Sliding, frame: Pair, ceil_mode: bool = False) -> Pair:
    """Size of the layer's output, at least one cell."""
    size = layer.output_size(frame, ceil_mode)
    if size[0] < 1 or size[1] < 1:
        raise ValueError(f"{op}: expected {argument} large enough for one output of {layer}, got {frame}")
    return size

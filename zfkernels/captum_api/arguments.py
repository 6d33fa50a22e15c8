"""Captum's forms of arguments: tensors or tuples of them, and the many ways to name an output."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from zfkernels.checks import as_int

Inputs = Tensor | tuple[Tensor, ...]
Forward = Callable[..., Any]
Index = int | slice


class RefusedValue(AssertionError, ValueError):
    """An argument that Captum refuses by assertion; a ValueError as everywhere else in this package."""


class RefusedType(AssertionError, TypeError):
    """An argument of a type that Captum refuses by assertion; a TypeError as everywhere else in this package."""


def as_tensors(name: str, inputs: Any) -> tuple[Tensor, ...]:
    """One or several inputs as a tuple, cut off from autograd."""
    tensors = inputs if isinstance(inputs, tuple) else (inputs,)
    for tensor in tensors:
        if not isinstance(tensor, Tensor):
            raise RefusedType(f"{name}: expected inputs a tensor or a tuple of tensors, got {type(tensor).__name__}")
    return tuple(tensor.detach() for tensor in tensors)


def as_arguments(additional: Any) -> tuple[Any, ...]:
    """``additional_forward_args`` as a tuple."""
    return () if additional is None else additional if isinstance(additional, tuple) else (additional,)


def as_inputs(inputs: Any, results: tuple[Tensor, ...]) -> Any:
    """One result for each input, in the form of the inputs and each in the memory format of its own."""
    like = inputs if isinstance(inputs, tuple) else (inputs,)
    laid_out = tuple(_laid_out(*pair) for pair in zip(results, like, strict=True))
    return laid_out if isinstance(inputs, tuple) else laid_out[0]


def _laid_out(result: Tensor, like: Tensor) -> Tensor:
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    last = formats.get(like.dim(), torch.contiguous_format)
    fits = not like.is_contiguous() and like.is_contiguous(memory_format=last) and result.dim() == like.dim()
    return result.contiguous(memory_format=last if fits else torch.contiguous_format)


def without_wrapper(model: Any) -> Any:
    """The module inside a DataParallel wrapper: everything runs on the inputs' own device."""
    return model.module if isinstance(model, nn.DataParallel) else model


def select(name: str, output: Tensor, target: Any) -> Tensor:
    """The elements of ``output`` [N, ...] that ``target`` names, N first where it names them for each example.

    Args:
        name: who asks, for messages.
        output: [N, ...].
        target: None (all); an int or a tensor of one int (an index of axis 1); a tuple (of axes 1, 2, …); an int tensor
            [N] or a list of N ints (each example's index of axis 1, for [N, classes] only); a list of N tuples.
    """
    target = as_int(target)
    if target is None:
        return output
    if isinstance(target, Tensor):
        fits = target.numel() == 1 or (target.dim() == 1 and len(target) == _length(output))
        if target.is_floating_point() or not fits:
            raise RefusedValue(
                f"{name}: expected target an int tensor of 1 or {_length(output)} elements, got {target.dtype} of "
                f"shape {tuple(target.shape)}"
            )
        target = target.item() if target.numel() == 1 else target.tolist()
    if isinstance(target, (int, tuple)):
        return columns(name, "target", output, target)
    if not isinstance(target, list):
        raise RefusedType(f"{name}: expected target an int, tuple, tensor or list, got {type(target).__name__}")
    if len(target) != _length(output):
        raise RefusedValue(f"{name}: expected target a list of {_length(output)} entries, got {len(target)}")
    if all(isinstance(entry, int) for entry in target) and output.dim() != 2:
        raise RefusedValue(
            f"{name}: expected an output [N, classes] for a target of one int for each example, got "
            f"{tuple(output.shape)}"
        )
    if not all(isinstance(entry, (int, tuple)) for entry in target):
        raise RefusedType(f"{name}: expected target a list of ints or tuples, got {target!r}")
    rows = [columns(name, "target", output[i : i + 1], entry) for i, entry in enumerate(target)]
    return torch.cat(rows) if rows else output[:, 0]


def columns(name: str, argument: str, output: Tensor, index: Any) -> Tensor:
    """``output[:, *index]``.

    Raises:
        IndexError: ``index`` lies outside of the output.
    """
    index = as_int(index if isinstance(index, tuple) else (index,))
    shape = tuple(output.shape[1:])
    if len(index) > len(shape) or not all(isinstance(entry, Index) for entry in index):
        raise RefusedValue(
            f"{name}: expected {argument} at most {len(shape)} ints or slices for an output of shape "
            f"{tuple(output.shape)}, got {index}"
        )
    for entry, length in zip(index, shape, strict=False):
        if isinstance(entry, int) and not -length <= entry < length:
            raise IndexError(f"{name}: expected {argument} from 0 to {length - 1}, got {entry}")
    everywhere: tuple[Index, ...] = (slice(None), *index)
    return output[everywhere]


def _length(output: Tensor) -> int:
    return output.shape[0] if output.dim() else 0

"""How to show people what a network takes and says: the colours of its inputs, the names of its classes."""

from __future__ import annotations

import difflib
import numbers
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Look:
    """What is known of a network's inputs and outputs.

    Attributes:
        mean, std: Per-channel normalisation of pixels in [0, 1]; None: not known.
        classes: Names of the classes; empty: not known.
    """

    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    classes: tuple[str, ...] = ()

    @classmethod
    def of(cls, model: Any) -> Look:
        """What a model says of itself: ``model.preprocess`` with ``mean`` and ``std``, ``model.class_names``."""
        preprocess, names = getattr(model, "preprocess", None), getattr(model, "class_names", None)
        mean, std = (_floats(getattr(preprocess, name, None)) for name in ("mean", "std"))
        if mean is None or std is None:
            mean = std = None
        known = isinstance(names, (list, tuple)) and all(isinstance(name, str) for name in names)
        return cls(mean, std, tuple(names) if isinstance(names, (list, tuple)) and known else ())

    def name(self, number: int) -> str:
        """What people call a class."""
        return self.classes[number] if number < len(self.classes) else f"class {number}"


UNKNOWN = Look()


def _floats(values: Any) -> tuple[float, ...] | None:
    listed = values.flatten().tolist() if isinstance(values, Tensor) else values
    if not isinstance(listed, (list, tuple)) or not all(isinstance(value, numbers.Real) for value in listed):
        return None
    return tuple(float(value) for value in listed)


def class_numbers(
    function: str,
    target: Any,
    clean: Tensor,  # [N, classes]
    names: Sequence[str] = (),
) -> Tensor:  # int64 [N]
    """The class that is meant for each of N images.

    Args:
        function: In whose name to complain.
        target: A number, a name, or one of them for each image (a list, or int64 [N]); None: each image's own class,
            the largest of ``clean``.
        clean: The outputs for the clean images.
        names: Of the classes.

    Raises:
        TypeError: a bool, a broken number, or something else that names no class.
        ValueError: no such class, or another number of them than there are images.
    """
    count, classes = clean.shape
    if target is None:
        return clean.argmax(1)
    if hasattr(target, "tolist"):  # a tensor, an array or a number of NumPy's
        target = target.tolist()
    if not isinstance(target, (list, tuple, range)):
        return torch.full((count,), _number(function, target, classes, names), device=clean.device)
    if len(target) != count:
        raise ValueError(f"{function}: expected target a class, or one for each of {count} images, got {len(target)}")
    found = [_number(function, one, classes, names) for one in target]
    return torch.tensor(found, dtype=torch.int64, device=clean.device)


def _number(function: str, target: Any, classes: int, names: Sequence[str]) -> int:
    if isinstance(target, str):
        return _named(function, target, names)
    if isinstance(target, bool) or not isinstance(target, int):
        raise TypeError(f"{function}: expected target the number or name of a class, got {target!r}")
    if not 0 <= target < classes:
        raise ValueError(f"{function}: expected a class from 0 to {classes - 1}, got {target}")
    return target


def _named(function: str, target: str, names: Sequence[str]) -> int:
    if not names:
        raise ValueError(
            f"{function}: expected target the number of a class, as the model names none (class_names), got {target!r}"
        )
    known = {name.lower(): n for n, name in reversed(list(enumerate(names)))}
    if target.lower() not in known:
        near = difflib.get_close_matches(target.lower(), known, n=3, cutoff=0.4)
        raise ValueError(f"{function}: expected target a class of the model, got {target!r}; near matches: {near}")
    return known[target.lower()]

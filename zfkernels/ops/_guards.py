"""What the registered ops check before any variant runs, so that no argument can crash a kernel.

The package's own functions check more, in the words of their own arguments. Here stands what is common to all ops: the
geometry of what slides. Shapes have a guard of their own beside each op.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

_LEAST = {
    "kernel_size": 1, "stride": 1, "dilation": 1, "padding": 0, "groups": 1, "divisor_override": 1, "frame": 1,
    "output_size": 1, "unpooled_size": 1, "cells": 0,
}  # fmt: skip
_ONE_OF = {"overlap": ("sum", "last"), "how": ("sum", "max")}


def geometry_guard(op: str, names: Sequence[str]) -> Callable[..., None]:
    """A check of the arguments called ``names`` that say how an op slides: at least 1 (padding: 0), or a known word."""
    known = [(i, name, name.removeprefix("pool_")) for i, name in enumerate(names)]
    least = [(i, name, _LEAST[kind]) for i, name, kind in known if kind in _LEAST]
    words = [(i, name, _ONE_OF[kind]) for i, name, kind in known if kind in _ONE_OF]

    def guard(*args: Any) -> None:
        for i, name, minimum in least:
            value = args[i]
            if value is not None and (min(value) if isinstance(value, (list, tuple)) else value) < minimum:
                raise ValueError(f"{op}: expected {name} at least {minimum}, got {value}")
        for i, name, choices in words:
            if args[i] not in choices:
                raise ValueError(f"{op}: expected {name} one of {choices}, got {args[i]!r}")

    return guard

"""Errors bear the name of the function that the user called, whichever function inside found the mistake."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

# What works for several public functions and knows none of them.
INNER = frozenset({"network", "record", "trace", "occlusion_sweep", "DeconvNet", "project", "pull_back"})


@contextmanager
def signed(name: str) -> Iterator[None]:
    """A decorator, or a ``with`` statement: ``name`` stands in place of an inner function's in ``<function>: …``."""
    try:
        yield
    except (TypeError, ValueError, RuntimeError, IndexError) as error:
        head, colon, rest = str(error.args[0] if error.args else "").partition(": ")
        if colon and head in INNER:
            error.args = (f"{name}: {rest}", *error.args[1:])
        raise

"""Which variant of an op is asked for by name: by argument, context manager or environment."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextvars import ContextVar

BACKENDS = ("reference", "cpp", "triton", "cuda")
_requested: ContextVar[str | None] = ContextVar(
    "zfkernels_backend", default=os.environ.get("ZFKERNELS_BACKEND") or None
)


class BackendError(RuntimeError):
    """A backend that was asked for by name cannot run; the message names the op, the reason and the choices."""


@contextlib.contextmanager
def use_backend(name: str) -> Iterator[None]:
    """All ops called inside run this variant, or raise :class:`BackendError` where they cannot.

    The environment variable ``ZFKERNELS_BACKEND``, read when the package is imported, does the same for a whole
    process; an op's own ``backend=`` argument goes before both, for its forward pass. Backward passes follow the
    setting in force when they run.

    Args:
        name: ``"reference"``, ``"cpp"``, ``"triton"`` or ``"cuda"``.

    Raises:
        ValueError: another name.
    """
    if name not in BACKENDS:
        raise ValueError(f"use_backend: expected name one of {BACKENDS}, got {name!r}")
    token = _requested.set(name)
    try:
        yield
    finally:
        _requested.reset(token)


def requested_backend(backend: str | None = None) -> str | None:
    """The variant asked for by name: ``backend``, else the setting in force; None: each op chooses by device."""
    return backend or _requested.get()

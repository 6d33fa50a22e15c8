"""Errors and warnings bear the name of the function that the user called, whichever one inside found the mistake."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

# What works for several public functions and knows none of them.
INNER = frozenset({"network", "record", "trace", "occlusion_sweep", "DeconvNet", "project", "pull_back"})
INSIDE = ("zfkernels", "torch", "contextlib")  # between a user's call and a warning: the package, and decorators

_called: ContextVar[str | None] = ContextVar("the public function that the user called", default=None)


@contextmanager
def signed(name: str) -> Iterator[None]:
    """A decorator, or a ``with`` statement: in ``<function>: …``, ``name`` replaces the name of an inner function.

    Where several are nested, the outermost one names the function that the user called.
    """
    token = _called.set(_called.get() or name)
    try:
        yield
    except (TypeError, ValueError, RuntimeError, IndexError) as error:
        head, colon, rest = str(error.args[0] if error.args else "").partition(": ")
        if colon and head in INNER:
            error.args = (f"{name}: {rest}", *error.args[1:])
        raise
    finally:
        _called.reset(token)


def warn_user(function: str, words: str, category: type[Warning] = UserWarning) -> None:
    """Warns in the name of the function that the user called, at the user's line that called it.

    Args:
        function: the function that found the reason. If it is one of ``INNER``, the name of the outermost
            :func:`signed` replaces its name.
        words: the text of the warning.
        category: the class of the warning.
    """
    name = _called.get() if function in INNER else None
    warnings.warn(f"{name or function}: {words}", category, stacklevel=_callers_level())


def _callers_level() -> int:
    """The ``stacklevel`` of the first function that is neither this package's nor a decorator's."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").split(".")[0] in INSIDE:
        level, frame = level + 1, frame.f_back
    return level

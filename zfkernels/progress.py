"""A progress bar around a loop: how far it is, how long all of it takes, and how much memory."""

from __future__ import annotations

import contextlib
import importlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch

from zfkernels._extras import require

LOGGED = 10.0  # seconds between the lines of a bar that goes into a file
LONG = 5.0  # seconds from which on a forecast is worth reading
SMOOTHING = 0.05  # of the rate: the first pieces of work are not like the rest


@contextlib.contextmanager
def progress_bar(
    total: int | None, unit: str, show: bool, *, name: str = "", done: int = 0
) -> Iterator[Callable[[int], object]]:
    """Yields a function that advances the bar; without ``show`` it does nothing and needs no library.

    From the first piece of work on the bar says how long all of it takes, if that is more than ``LONG`` seconds, and
    the most memory that was in use so far, which the pieces to come use again.

    Args:
        total: Pieces of work; None: nobody knows how many.
        unit: What a piece is, in the plural.
        show: Whether there is a bar.
        name: Of the work.
        done: Pieces that were done before.
    """
    if not show:
        yield lambda count: None
        return
    require("tqdm", "viz")
    bars = importlib.import_module("tqdm.auto")  # a bar of its own in a notebook
    rarely = {} if sys.stderr.isatty() or _in_a_notebook() else {"mininterval": LOGGED}
    with bars.tqdm(total=total, initial=done, desc=name or None, unit=f" {unit}", smoothing=SMOOTHING, **rarely) as bar:
        yield _Forecast(bar, None if total is None else total - done).advance


def _in_a_notebook() -> bool:
    """Whether this process runs a notebook's cells; having imported a notebook's packages does not make it one."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return shell is not None and "IPKernelApp" in shell.config


class _Forecast:
    """Advances a bar, and has it say what all of the work takes."""

    def __init__(self, bar: Any, todo: int | None) -> None:
        self.bar, self.todo, self.done = bar, todo, 0
        self.start, self.said = time.perf_counter(), False

    def advance(self, count: int) -> None:
        self.done += count
        elapsed = time.perf_counter() - self.start
        if self.todo is not None and 0 < self.done < self.todo:
            seconds = elapsed * self.todo / self.done
            if seconds > LONG:
                self.bar.set_postfix_str(f"about {in_words(seconds)} in all, {gigabytes()}", refresh=not self.said)
                self.said = True
        self.bar.update(count)


def in_words(seconds: float) -> str:
    """A duration with two digits at most: 40 s, 12 min, 3.4 h."""
    for unit, length in (("s", 1.0), ("min", 60.0)):
        if seconds < 90 * length:
            return f"{max(seconds / length, 1):.0f} {unit}"
    return f"{seconds / 3600:.2g} h" if seconds < 90 * 3600 else f"{seconds / 86400:.2g} days"


def gigabytes() -> str:
    """The most memory that this process has used so far: of the GPU where it uses one, else of the machine."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return f"{torch.cuda.max_memory_reserved() / 1e9:.2g} GB of the GPU's memory"
    try:
        import resource
    except ImportError:  # Windows keeps no such account
        return "memory not known"
    unit = 1 if sys.platform == "darwin" else 1024
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9:.2g} GB of memory"

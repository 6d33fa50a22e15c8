"""A progress bar around a method's own loop."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Callable, Iterator

from zfkernels._extras import require

LOGGED = 10.0  # seconds between the lines of a bar that goes into a file


@contextlib.contextmanager
def progress_bar(total: int | None, unit: str, show: bool) -> Iterator[Callable[[int], object]]:
    """Yields a function that advances the bar (``total`` None: nobody knows how far); without ``show`` it does nothing
    and needs no library."""
    if not show:
        yield lambda count: None
        return
    require("tqdm", "viz")
    bars = importlib.import_module("tqdm.auto")  # a bar of its own in a notebook
    rarely = {} if sys.stderr.isatty() or "ipykernel" in sys.modules else {"mininterval": LOGGED}
    with bars.tqdm(total=total, unit=unit, **rarely) as bar:
        yield bar.update

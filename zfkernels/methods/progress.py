"""A progress bar around a method's own loop."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from zfkernels._extras import require


@contextlib.contextmanager
def progress_bar(total: int | None, unit: str, show: bool) -> Iterator[Callable[[int], object]]:
    """Yields a function that advances the bar (``total`` None: nobody knows how far); without ``show`` it does nothing
    and needs no library."""
    if not show:
        yield lambda count: None
        return
    with require("tqdm", "viz").tqdm(total=total, unit=unit) as bar:
        yield bar.update

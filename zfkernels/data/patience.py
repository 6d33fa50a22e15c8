"""Says so when nothing comes."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")

QUIET = 60.0  # seconds

warn = logging.getLogger("zfkernels").warning


def say_when_quiet(items: Iterable[T], name: str, say: Callable[[str], object]) -> Iterator[T]:
    """The items; ``say`` is called with a sentence each time that one has not come for another minute."""
    waiting = iter(items)
    while True:
        came = threading.Event()
        watch = threading.Thread(target=_watch, args=(came, name, say), daemon=True)
        watch.start()
        try:
            item = next(waiting)
        except StopIteration:
            return
        finally:
            came.set()
        yield item


def _watch(came: threading.Event, name: str, say: Callable[[str], object]) -> None:
    waited = 0.0
    while not came.wait(QUIET):
        waited += QUIET
        say(f"stream: {name} has given nothing for {waited:g} seconds; still waiting")

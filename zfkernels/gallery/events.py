"""What a run says while it goes on: bars for people, events for programs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from zfkernels.data.patience import warn
from zfkernels.progress import progress_bar

Event = dict[str, Any]
EVERY = 1.0  # seconds between two events of a stage


@dataclass
class Reporter:
    """Shows bars on stderr, hands events to a function, or keeps silent.

    Attributes:
        show: Whether to show bars.
        listen: Is called with each event, see ``zfkernels.gallery.build_gallery``.
        seconds: What each stage took in this process.
    """

    show: bool = False
    listen: Callable[[Event], object] | None = None
    seconds: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, progress: bool | Callable[[Event], object], speaks: bool) -> Reporter:
        """The reporter that the argument ``progress`` asks for; one of several processes speaks."""
        if not speaks:
            return cls()
        return cls(listen=progress) if callable(progress) else cls(show=bool(progress))

    def say(self, event: str, **facts: Any) -> None:
        if self.listen is not None:
            self.listen({"event": event, **facts})

    def waiting(self, sentence: str) -> None:
        """Passes on that nothing comes, from another thread: as an event, or to the log where nobody listens."""
        if self.listen is None:
            warn(sentence)
        else:
            self.say("waiting", sentence=sentence)

    @contextmanager
    def stage(self, name: str, total: int | None, unit: str, done: int = 0) -> Iterator[Stage]:
        """Times a stage and shows how far it is; ``done`` of ``total`` were done before."""
        start = time.perf_counter()
        self.say("stage", stage=name, total=total, done=done, unit=unit)
        with progress_bar(total, unit, self.show, name=name, done=done) as advance:
            stage = Stage(self, name, total, done, advance)
            yield stage
        self.seconds[name] = time.perf_counter() - start
        self.say("done", stage=name, done=stage.done, seconds=round(self.seconds[name], 3))


class Stage:
    """How far a stage is."""

    def __init__(
        self, reporter: Reporter, name: str, total: int | None, done: int, bar: Callable[[int], object]
    ) -> None:
        self.name, self.total, self.done = name, total, done
        self._reporter, self._bar = reporter, bar
        self._first = done
        self._start = self._said = time.perf_counter()

    def advance(self, count: int) -> None:
        """Says that so many more are done."""
        self.done += count
        self._bar(count)
        now = time.perf_counter()
        if self._reporter.listen is None or now - self._said < EVERY:
            return
        self._said = now
        rate = (self.done - self._first) / (now - self._start)
        left = None if self.total is None else round((self.total - self.done) / rate, 1)
        self._reporter.say(
            "progress", stage=self.name, done=self.done, total=self.total, rate=round(rate, 2), seconds_left=left
        )

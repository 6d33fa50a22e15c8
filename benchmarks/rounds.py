"""Interleaved rounds: all contenders of a group run in turn, again and again, so that a ratio survives a noisy machine.

A race is run once, by the first test that asks for one of its contenders. Each test then replays its own contender's
times through pytest-benchmark, whose tables, statistics and JSON thus show one contender a row.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from machine import description

Contender = Callable[[Any], Any]


@dataclass(frozen=True)
class Race:
    """Times in seconds, [rounds] for each contender, in the order of the rounds."""

    times: Mapping[str, list[float]]

    def median(self, name: str) -> float:
        return statistics.median(self.times[name])

    def ratio(self, slow: str, fast: str) -> float:
        """Median over the rounds of how many times ``fast`` is faster than ``slow``."""
        return statistics.median(s / f for s, f in zip(self.times[slow], self.times[fast], strict=True))


def run_race(
    contenders: Mapping[str, Contender],
    make_input: Callable[[int], Any],
    check: Callable[[str, Any, Any], None],
    rounds: int,
) -> Race:
    """Checks all contenders against the first on one input, then times them in turn, with a new input every round.

    Args:
        contenders: by name; each takes the input and returns a result.
        make_input: input of a round; round 0 is the check's and serves as warm-up.
        check: raises AssertionError if a contender's result (name, result, the first one's) is wrong.
        rounds: timed rounds.
    """
    first = make_input(0)
    expected = None
    for name, contender in contenders.items():
        result = contender(first)
        expected = result if expected is None else expected
        check(name, result, expected)
    times: dict[str, list[float]] = {name: [] for name in contenders}
    names = list(contenders)
    for turn in range(1, rounds + 1):
        value = make_input(turn)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:  # nobody always goes first
            start = time.perf_counter()
            contenders[name](value)
            times[name].append(time.perf_counter() - start)
    return Race(times)


@dataclass
class _Replay:
    """A timer for pytest-benchmark that reads recorded times instead of a clock."""

    pending: Iterator[float] = field(default_factory=lambda: iter(()))
    now: float = 0.0
    running: bool = False

    def load(self, times: list[float]) -> None:
        self.pending, self.running = iter(times), False

    def __call__(self) -> float:
        if self.running:
            self.now += next(self.pending)
        self.running = not self.running
        return self.now


_replay = _Replay()


def replay_timer() -> float:
    """To be given to pytest-benchmark: ``pytestmark = pytest.mark.benchmark(timer=replay_timer)``."""
    return _replay()


def replay(benchmark: Any, race: Race, name: str, group: str, **extra: Any) -> None:
    """Reports a contender's times under ``group``, with what else is known in ``extra_info``."""
    benchmark.group = group
    benchmark.extra_info.update(description() | {"contender": name} | extra)
    _replay.load(race.times[name])
    benchmark.pedantic(lambda: None, rounds=len(race.times[name]), iterations=1)

"""Interleaved rounds: all contenders of a group run in turn, again and again, so that a ratio survives a noisy machine.

A race is run once, by the first test that asks for one of its contenders. Each test then replays its own contender's
times through pytest-benchmark, whose tables, statistics and JSON thus show one contender a row.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from machine import copy_gbs, description, gemm_gflops

Contender = Callable[[Any], Any]
LEAST_SECONDS, MOST_CALLS = 2e-3, 50  # of a round
SHORT_SECONDS = 1.0  # a first call of less is tried again, to see how short it is


@dataclass(frozen=True)
class Race:
    """Times in seconds, [rounds] for each contender, in the order of the rounds."""

    times: Mapping[str, list[float]]

    def median(self, name: str) -> float:
        return statistics.median(self.times[name])

    def ratio(self, slow: str, fast: str) -> float:
        """Median over the rounds of how many times ``fast`` is faster than ``slow``."""
        return statistics.median(s / f for s, f in zip(self.times[slow], self.times[fast], strict=True))


@dataclass(frozen=True)
class Work:
    """What the task itself needs, whoever does it: the two floors of its time.

    Attributes:
        multiply_adds: of the values that are not zero by construction.
        bytes: each input read once and each output written once.
    """

    multiply_adds: float = 0
    bytes: float = 0

    def floors(self) -> dict[str, float]:
        """Seconds at this machine's own best rates."""
        return {
            "floor_arithmetic_s": 2 * self.multiply_adds / gemm_gflops() / 1e9,
            "floor_bytes_s": self.bytes / copy_gbs() / 1e9,
        }


def run_race(
    contenders: Mapping[str, Contender],
    make_input: Callable[[int], Any],
    check: Callable[[str, Any, Any], None],
    rounds: int,
) -> Race:
    """Checks all contenders against the first on one input, then times them in turn, with a new input every round.

    Where the fastest takes less than LEAST_SECONDS, a round is the mean of so many calls of each in a row that it takes
    as long (MOST_CALLS at most): a single short call is timed together with the code and data that the contender before
    it drove out of the caches.

    Args:
        contenders: by name; each takes the input and returns a result.
        make_input: input of a round; round 0 is the check's and serves as warm-up.
        check: raises AssertionError if a contender's result (name, result, the first one's) is wrong.
        rounds: timed rounds.
    """
    first = make_input(0)
    expected = None
    fastest = LEAST_SECONDS
    for name, contender in contenders.items():
        start = time.perf_counter()
        result = contender(first)
        short = time.perf_counter() - start < SHORT_SECONDS
        expected = result if expected is None else expected
        check(name, result, expected)
        fastest = min(fastest, _seconds(contender, first)) if short else fastest
    calls = min(MOST_CALLS, math.ceil(LEAST_SECONDS / fastest))
    del first, expected, result
    times: dict[str, list[float]] = {name: [] for name in contenders}
    names = list(contenders)
    for turn in range(1, rounds + 1):
        value = make_input(turn)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:  # nobody always goes first
            times[name].append(_seconds(contenders[name], value, calls))
    return Race(times)


def _seconds(contender: Contender, value: Any, calls: int = 1) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        contender(value)
    return (time.perf_counter() - start) / calls


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


def replay(
    benchmark: Any, race: Race, name: str, group: str, *, baselines: Sequence[str], work: Work, **extra: Any
) -> None:
    """Reports a contender's times under ``group``, with what else is known in ``extra_info``.

    ``speedup`` is against the fastest of ``baselines``: the median over the rounds of the ratio within a round.
    """
    best, median = min(baselines, key=race.median), race.median(name)
    benchmark.group = group
    benchmark.extra_info.update(
        description()
        | work.floors()
        | {
            "contender": name,
            "baseline": best,
            "speedup": race.ratio(best, name),
            "gflops": 2 * work.multiply_adds / median / 1e9,
            "gbs": work.bytes / median / 1e9,
            "share_of_gemm": 2 * work.multiply_adds / median / 1e9 / gemm_gflops(),
            "share_of_copy": work.bytes / median / 1e9 / copy_gbs(),
            "bytes": work.bytes,
            "multiply_adds": work.multiply_adds,
        }
        | extra
    )
    _replay.load(race.times[name])
    benchmark.pedantic(lambda: None, rounds=len(race.times[name]), iterations=1)

"""The short form of ``make fuzz``: the first seeds of each kind, and those that found a fault once."""

from __future__ import annotations

import os
import random
from collections import Counter
from pathlib import Path

import fuzzing
import pytest
from fuzzing import KINDS, Report, attempt, damaged, run_round

pytestmark = pytest.mark.usefixtures("no_hang")

SEEDS = 120


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files_are_used_or_refused_in_a_sentence(kind: str, tmp_path: Path) -> None:
    outcomes = Counter(attempt(kind, seed, tmp_path) for seed in (*range(SEEDS), *KINDS[kind].once))
    assert len(outcomes) > 1, "the damage changes nothing, or everything"


@pytest.mark.parametrize("kind", KINDS)
def test_whole_files_are_read(kind: str, tmp_path: Path) -> None:
    for whole in KINDS[kind].whole():
        (tmp_path / KINDS[kind].name).write_bytes(whole)
        assert KINDS[kind].use(tmp_path / KINDS[kind].name) == "all read"


def test_a_seed_is_always_the_same_case() -> None:
    whole = KINDS["zip"].whole()
    assert damaged(whole, random.Random("zip 3")) == damaged(whole, random.Random("zip 3"))


@pytest.mark.parametrize("fault", ["dies", "raises"])
def test_a_case_that_ends_its_process_is_a_fault(monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    def attempt(kind: str, seed: int, folder: Path) -> str:
        if seed == 2:
            os._exit(3) if fault == "dies" else next(iter(()))
        return "all read"

    monkeypatch.setattr(fuzzing, "attempt", attempt)
    report = Report()
    run_round("zip", 0, 5, report)
    assert report.outcomes == {"all read": 4, "fault": 1}
    (text,) = report.faults
    assert text.startswith("zip 2: ")

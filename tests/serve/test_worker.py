"""The thread that computes: its order, what becomes stale, what errors become; and the budget of what is kept."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError

import pytest

from zfkernels.serve import worker as module
from zfkernels.serve.budget import Budget
from zfkernels.serve.worker import BusyError, StaleError, Worker


class Held:
    """A worker that is busy until ``release``, so that what is asked meanwhile waits."""

    def __init__(self) -> None:
        self.worker, self.gate, begun = Worker(), threading.Event(), threading.Event()
        self.worker.ask(lambda: (begun.set(), self.gate.wait(30)))
        assert begun.wait(30)
        self.order: list[object] = []

    def release(self) -> None:
        self.gate.set()
        self.worker.ask(lambda: None).result(30)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    monkeypatch.setattr(module, "PATIENCE", 1000.0)
    monkeypatch.setattr(module, "GAP", 1000.0)
    found = Held()
    yield found
    found.gate.set()
    found.worker.close()


def test_the_newest_question_is_next(held: Held) -> None:
    jobs = [held.worker.ask(lambda n=n: held.order.append(n)) for n in range(3)]
    held.gate.set()
    for job in jobs:
        job.result(30)
    assert held.order == [2, 1, 0]


def test_an_old_question_is_not_left_behind(held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.0)
    jobs = [held.worker.ask(lambda n=n: held.order.append(n)) for n in range(3)]
    time.sleep(0.01)
    held.gate.set()
    for job in jobs:
        job.result(30)
    assert held.order == [0, 1, 2]


def test_a_newer_question_of_a_lane_makes_the_older_stale(held: Held) -> None:
    old, other = (held.worker.ask(lambda name=name: held.order.append(name), lane=name) for name in "ab")
    new = held.worker.ask(lambda: held.order.append("new"), lane="a")
    held.gate.set()
    new.result(30)
    other.result(30)
    with pytest.raises(StaleError, match="a newer question has come"):
        old.result(30)
    assert held.order == ["new", "b"]


def test_long_work_waits_for_questions_and_keeps_its_order(held: Held) -> None:
    pieces = [held.worker.piece(lambda n=n: held.order.append(n)) for n in range(2)]
    question = held.worker.ask(lambda: held.order.append("question"))
    held.gate.set()
    for job in (*pieces, question):
        job.result(30)
    assert held.order == ["question", 0, 1]


def test_long_work_goes_on_while_questions_keep_coming(held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GAP", 0.0)
    piece = held.worker.piece(lambda: held.order.append("piece"))
    question = held.worker.ask(lambda: held.order.append("question"))
    time.sleep(0.01)
    held.gate.set()
    piece.result(30)
    question.result(30)
    assert held.order == ["piece", "question"]


def test_an_error_reaches_who_asked_and_the_worker_goes_on(held: Held) -> None:
    failed = held.worker.ask(lambda: 1 / 0)
    held.release()
    with pytest.raises(ZeroDivisionError):
        failed.result(30)
    assert held.worker.ask(lambda: 7).result(30) == 7


def test_what_nobody_waits_for_is_not_done(held: Held) -> None:
    job = held.worker.ask(lambda: held.order.append("done"))
    assert job.cancel()
    held.release()
    assert held.order == []


def test_too_many_questions_are_refused(held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 2)
    jobs = [held.worker.ask(lambda: None) for _ in range(2)]
    with pytest.raises(BusyError, match="too many questions wait"):
        held.worker.ask(lambda: None)
    jobs[0].cancel()
    held.worker.ask(lambda: None)  # there is room again


def test_a_closed_worker_lets_no_one_wait() -> None:
    held = Held()
    waits = held.worker.ask(lambda: None)
    threading.Timer(0.05, held.gate.set).start()
    held.worker.close()
    with pytest.raises((StaleError, CancelledError)):
        waits.result(30)
    with pytest.raises(BusyError):
        held.worker.ask(lambda: None)


def test_a_budget_lets_go_of_what_was_used_longest_ago() -> None:
    budget: Budget[str] = Budget(10)
    for key in "abc":
        budget.put(key, key.upper(), 4 if key != "c" else 2)
    assert budget.get("a") == "A"
    budget.put("d", "D", 4)
    assert [budget.get(key) for key in "abcd"] == ["A", None, "C", "D"]
    assert budget.used == 10
    budget.put("a", "A2", 1)
    assert (budget.get("a"), budget.used, len(budget)) == ("A2", 7, 3)


def test_a_budget_keeps_the_latest_however_large_it_is() -> None:
    budget: Budget[str] = Budget(10)
    budget.put("a", "A", 3)
    budget.put("b", "B", 100)
    assert (budget.get("a"), budget.get("b"), budget.used) == (None, "B", 100)
    with pytest.raises(ValueError, match="Budget: expected limit at least 1 byte, got 0"):
        Budget(0)

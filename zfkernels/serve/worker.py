"""One thread that computes: the newest question first, stale ones dropped, long work in between."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

PATIENCE = 1.0  # seconds after which a question is answered before newer ones
GAP = 0.1  # seconds after which a piece of long work is done although questions wait
MOST = 256  # questions that may wait


class StaleError(Exception):
    """A newer question of the same kind has come, and nobody waits for this answer."""


class BusyError(Exception):
    """Too many questions wait; the message says so."""


@dataclass
class _Job:
    work: Callable[[], Any]
    lane: str | None
    since: float
    future: Future[Any] = field(default_factory=Future)


class Worker:
    """Runs one job at a time in a thread of its own.

    Of jobs that wait the newest is next, except where the oldest has waited for ``PATIENCE`` seconds. A job of a lane
    makes those stale that wait in the same lane. Pieces of long work run when no other job waits, or has waited for
    ``GAP`` seconds.
    """

    def __init__(self) -> None:
        self._jobs: list[_Job] = []
        self._pieces: list[_Job] = []
        self._wake = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="zfkernels-network", daemon=True)
        self._thread.start()

    def ask(self, work: Callable[[], Any], lane: str | None = None) -> Future[Any]:
        """Queues a short job; its future gets the result, what ``work`` raised, or a :class:`StaleError`.

        Raises:
            BusyError: Too many jobs wait.
        """
        return self._queue(self._jobs, _Job(work, lane, time.monotonic()))

    def piece(self, work: Callable[[], Any]) -> Future[Any]:
        """Queues a piece of long work: after the jobs that wait, in the order in which pieces come.

        Raises:
            BusyError: Too many pieces wait.
        """
        return self._queue(self._pieces, _Job(work, None, time.monotonic()))

    def close(self) -> None:
        """Ends the thread after the job that runs; what waits is stale."""
        with self._wake:
            self._closed = True
            left = [*self._jobs, *self._pieces]
            self._jobs.clear()
            self._pieces.clear()
            self._wake.notify()
        _drop(left)
        self._thread.join()

    def _queue(self, queue: list[_Job], job: _Job) -> Future[Any]:
        with self._wake:
            stale = [other for other in queue if job.lane is not None and other.lane == job.lane]
            queue[:] = [other for other in queue if other not in stale and not other.future.cancelled()]
            if self._closed or len(queue) >= MOST:
                raise BusyError("the server is busy: too many questions wait")
            queue.append(job)
            self._wake.notify()
        _drop(stale)
        return job.future

    def _next(self) -> _Job:
        """The job that is due; call it with the lock held while some job waits."""
        now = time.monotonic()
        if self._pieces and (not self._jobs or now - self._pieces[0].since > GAP):
            return self._pieces.pop(0)
        return self._jobs.pop(0 if now - self._jobs[0].since > PATIENCE else -1)

    def _run(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._jobs or self._pieces or self._closed)
                if self._closed:
                    return
                job = self._next()
            if job.future.set_running_or_notify_cancel():
                try:
                    result = job.work()
                except BaseException as error:  # noqa: BLE001  # whoever asked gets it
                    job.future.set_exception(error)
                else:
                    job.future.set_result(result)


def _drop(jobs: list[_Job]) -> None:
    for job in jobs:
        if job.future.set_running_or_notify_cancel():
            job.future.set_exception(StaleError("a newer question has come"))

"""Sweeps as server-sent events: begun with a plan, then piece by piece; ended where the reader goes away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from starlette.responses import StreamingResponse

from zfkernels.output import to_json
from zfkernels.serve.arguments import RefusedError
from zfkernels.serve.explorer import Explorer
from zfkernels.serve.photos import Photo
from zfkernels.serve.sweep import SweepOptions, pieces, plan
from zfkernels.serve.worker import BusyError, Worker

AT_ONCE = 16  # sweeps


class Sweeps:
    """Sweeps of a network that run for readers.

    Args:
        explorer: The network.
        worker: The thread that computes.

    Attributes:
        running: How many run.
    """

    def __init__(self, explorer: Explorer, worker: Worker) -> None:
        self.explorer, self.worker = explorer, worker
        self.running = 0

    async def stream(self, photo: Photo, options: SweepOptions) -> StreamingResponse:
        """The events of a sweep: ``plan``, ``piece`` (first place, values, seconds left), ``done`` or ``problem``.

        Raises:
            RefusedError: As many run as may.
            ValueError: As of :func:`plan`.
        """
        if self.running >= AT_ONCE:
            raise RefusedError(f"{AT_ONCE} sweeps run already", 503)
        planned = await asyncio.wrap_future(self.worker.ask(lambda: plan(self.explorer, photo, options)))
        return StreamingResponse(self._events(photo, options, planned), media_type="text/event-stream")

    async def _events(self, photo: Photo, options: SweepOptions, planned: dict[str, Any]) -> AsyncIterator[str]:
        self.running += 1
        work = pieces(self.explorer, photo, options)
        began, first, total = time.monotonic(), 0, planned["total"]
        try:
            yield _event("plan", planned)
            while first < total:
                values = await asyncio.wrap_future(self.worker.piece(lambda: next(work)))
                left = (time.monotonic() - began) * (total / (first + len(values)) - 1)
                yield _event("piece", {"first": first, "values": values, "left": round(left, 2)})
                first += len(values)
            yield _event("done", {"seconds": round(time.monotonic() - began, 3)})
        except (BusyError, ValueError, RuntimeError) as error:
            yield _event("problem", {"problem": str(error).removeprefix("serve: ")})
        finally:
            self.running -= 1


def _event(name: str, record: dict[str, Any]) -> str:
    return f"event: {name}\ndata: {to_json(record)}\n\n"

"""What a pass over the images keeps on disk: which batches are done, and what they gave, in one file.

A file is replaced whole, so that after a crash at any moment it holds some batches entirely and the others not at all.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zfkernels.data import Batch

SECONDS = 10.0  # between two checkpoints; what a crash costs


@dataclass
class Progress:
    """Batches that are done, and what is known of them.

    Attributes:
        done: bool, by number of the batch; those beyond its end are not done.
        tensors: What the pass has gathered.
        notes: By image id: a reason, or a label.
        seconds: Where the time went, over all runs.
    """

    done: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.bool))
    tensors: dict[str, Tensor] = field(default_factory=dict)
    notes: dict[int, str | None] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def has(self, number: int) -> bool:
        return number < len(self.done) and bool(self.done[number])

    def finish(self, number: int) -> None:
        """Says that a batch is done.

        Raises:
            ValueError: It was before.
        """
        if self.has(number):
            raise ValueError(f"Progress: expected each batch once, got batch {number} twice")
        missing = number + 1 - len(self.done)
        if missing > 0:
            self.done = torch.cat([self.done, torch.zeros(max(missing, len(self.done)), dtype=torch.bool)])
        self.done[number] = True

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Counts the time of the block."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[what] = self.seconds.get(what, 0.0) + time.perf_counter() - start

    def waiting(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The batches; counts the time that is spent waiting for them."""
        iterator = iter(batches)
        while True:
            with self.timed("waiting for images"):
                batch = next(iterator, None)
            if batch is None:
                return
            yield batch

    def save(self, path: Path) -> None:
        from safetensors.torch import save

        meta = {"notes": json.dumps(list(self.notes.items())), "seconds": json.dumps(self.seconds)}
        write_whole(path, save({"done": self.done, **self.tensors}, meta))

    @classmethod
    def load(cls, path: Path) -> Progress:
        """The progress in a file.

        Raises:
            ValueError: The file is damaged.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, "pt") as file:
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  # not a mapping
                meta = file.metadata()
            notes, seconds = json.loads(meta["notes"]), json.loads(meta["seconds"])
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"build_gallery: expected a whole checkpoint, got {path} ({error}); resume=False (--fresh) starts anew"
            ) from error
        return cls(tensors.pop("done"), tensors, dict(map(tuple, notes)), seconds)


class Checkpoint:
    """Saves a progress every few seconds; ``update`` is to be called after each batch."""

    def __init__(self, path: Path, progress: Progress, gather: Callable[[], Mapping[str, Tensor]]) -> None:
        self.path, self.progress, self._gather = path, progress, gather
        self._last = time.monotonic()

    def update(self) -> bool:
        """Saves if it is time; says whether it did."""
        if time.monotonic() - self._last < SECONDS:
            return False
        self.save()
        return True

    def save(self) -> None:
        with self.progress.timed("checkpoints"):
            self.progress.tensors = dict(self._gather())
            self.progress.save(self.path)
        self._last = time.monotonic()


def write_whole(path: Path, data: bytes) -> None:
    """Replaces a file in one step: it holds all of the old bytes or all of the new ones, on disk."""
    temporary = path.with_name(f"{path.name}.part")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    flush_folder(path.parent)


def flush_folder(folder: Path) -> None:
    """Makes the names in a folder last, where the system can."""
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_json(path: Path, value: Any) -> None:
    write_whole(path, json.dumps(value, indent=1, ensure_ascii=False).encode("utf-8", "backslashreplace"))

"""What a pass over the images keeps on disk: which batches are done, and what they gave, in one file.

A file is replaced whole, so that after a crash at any moment it holds some batches entirely and the others not at all.
It begins with a digest of the run, of its own name and of what follows: a file that was damaged, or that comes from
another run or process, is refused.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from zfkernels.data import Batch
from zfkernels.output import write_whole
from zfkernels.output.workplace import ANEW

SECONDS = 10.0  # between two checkpoints; what a crash costs
SUFFIX = ".checkpoint"


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

    @property
    def numbers(self) -> list[int]:
        """The batches that are done."""
        return self.done.nonzero()[:, 0].tolist()

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

    def save(self, path: Path, run: str) -> None:
        """Writes the file ``path`` of the run with the digest ``run``."""
        from safetensors.torch import save

        notes = json.dumps([list(self.notes.items()), self.seconds]).encode()
        data = save({"done": self.done, "notes": torch.frombuffer(bytearray(notes), dtype=torch.uint8), **self.tensors})
        write_whole(path, _digest(path, run, data) + data)

    @classmethod
    def load(cls, path: Path, run: str) -> Progress:
        """The progress in a file.

        Raises:
            ValueError: The file is damaged, or it is not this one of this run.
        """
        from safetensors.torch import load

        data = path.read_bytes()
        digest, data = data[:DIGEST_BYTES], data[DIGEST_BYTES:]
        if digest != _digest(path, run, data):
            raise ValueError(
                f"build_gallery: expected a whole checkpoint of this run, got {path} that was damaged or belongs to "
                f"another; {ANEW}"
            )
        tensors = load(data)
        notes, seconds = json.loads(tensors.pop("notes").numpy().tobytes())
        return cls(tensors.pop("done"), tensors, dict(map(tuple, notes)), seconds)


DIGEST_BYTES = hashlib.sha256().digest_size


def _digest(path: Path, run: str, data: bytes) -> bytes:
    digest = hashlib.sha256(f"zfkernels checkpoint 1\n{run}\n{path.name}\n".encode())
    digest.update(data)
    return digest.digest()


class Checkpoint:
    """Saves a progress every few seconds; ``update`` is to be called after each batch.

    Args:
        path: The file.
        run: Digest of the run that it belongs to.
        progress: What to save.
        gather: Gives the tensors to save, when all that they describe is on disk.
    """

    def __init__(self, path: Path, run: str, progress: Progress, gather: Callable[[], Mapping[str, Tensor]]) -> None:
        self.path, self.run, self.progress, self._gather = path, run, progress, gather
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
            self.progress.save(self.path, self.run)
        self._last = time.monotonic()

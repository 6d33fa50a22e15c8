"""What is done of a run, a line for each image; a line that a crash cut off counts as not written."""

from __future__ import annotations

import json
import os
import time
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from zfkernels.output.files import flush_file, flush_folder
from zfkernels.output.workplace import ANEW

SECONDS = 1.0  # between two times that lines are written; what a crash costs


class Journal:
    """A file of lines, each with its checksum, and what they say by row.

    Args:
        path: The file.

    Attributes:
        entries: What was said of each row, without those whose files are not there as they were written.

    Raises:
        ValueError: A line is damaged that is not the last one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: dict[int, dict[str, Any]] = {}
        self._waiting: list[tuple[int, dict[str, Any], list[Path]]] = []
        self._last = time.monotonic()
        data = path.read_bytes() if path.exists() else b""
        good = 0
        for line in data.splitlines(keepends=True):
            parsed = _parse(line)
            if parsed is None:
                if good + len(line) < len(data):
                    raise ValueError(f"store_sweeps: expected a whole journal, got {path} that was damaged; {ANEW}")
                break
            self.entries[parsed["row"]] = parsed
            good += len(line)
        if good < len(data):
            os.truncate(path, good)
        self.entries = {row: entry for row, entry in self.entries.items() if self._is_whole(entry)}

    def add(self, row: int, entry: dict[str, Any], files: Iterable[Path] = ()) -> None:
        """Says that a row is done, once its files are on the disk; every second, or when ``save`` is called."""
        files = list(files)
        sizes = {str(path.relative_to(self.path.parent)): path.stat().st_size for path in files}
        self.entries[row] = {"row": row, "files": sizes, **entry}
        self._waiting.append((row, self.entries[row], files))
        if time.monotonic() - self._last >= SECONDS:
            self.save()

    def save(self) -> None:
        """Writes the lines that wait."""
        if not self._waiting:
            return
        files = [path for *_, paths in self._waiting for path in paths]
        for path in files:
            flush_file(path)
        for folder in {path.parent for path in files}:
            flush_folder(folder)
        with self.path.open("ab") as file:
            file.write(b"".join(_line(entry) for _, entry, _ in self._waiting))
            file.flush()
            os.fsync(file.fileno())
        flush_folder(self.path.parent)
        self._waiting.clear()
        self._last = time.monotonic()

    def _is_whole(self, entry: dict[str, Any]) -> bool:
        paths = {self.path.parent / name: size for name, size in entry["files"].items()}
        return all(path.is_file() and path.stat().st_size == size for path, size in paths.items())


def _line(entry: dict[str, Any]) -> bytes:
    text = json.dumps(entry).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _parse(line: bytes) -> dict[str, Any] | None:
    check, _, text = line.rstrip(b"\n").partition(b" ")
    if not line.endswith(b"\n") or check != b"%08x" % zlib.crc32(text):
        return None
    return json.loads(text)

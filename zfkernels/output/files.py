"""Files that hold all of the old bytes or all of the new ones, and records without NaN."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """The name of a file to write in the block; it then replaces ``path`` in one step, on disk.

    The file has the suffix of ``path`` and a name of this process's and this package's. If the block raises, ``path``
    is as it was.
    """
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.zfkernels{path.suffix}")
    try:
        yield temporary
        flush_file(temporary)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    flush_folder(path.parent)


def write_whole(path: Path, data: bytes) -> None:
    """Replaces a file in one step: it holds all of the old bytes or all of the new ones, on disk."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write_json(path: Path, value: Any) -> None:
    """Replaces a file by a record, in one step.

    Raises:
        ValueError: A number in it is NaN or infinite, which JSON does not have.
    """
    write_whole(path, to_json(value, indent=1).encode("utf-8", "backslashreplace"))


def to_json(value: Any, *, indent: int | None = None, ascii_only: bool = False) -> str:
    """A record as JSON.

    Raises:
        ValueError: A number in it is NaN or infinite, which JSON does not have; the message says where.
    """
    try:
        return json.dumps(value, indent=indent, ensure_ascii=ascii_only, allow_nan=False)
    except ValueError as error:
        place, number = next(_not_finite(value), ("", None))
        if number is None:
            raise
        raise ValueError(f"expected finite numbers in the record of the results, got {number} in {place}") from error


def _not_finite(value: Any, place: str = "") -> Iterator[tuple[str, float]]:
    if isinstance(value, float) and not math.isfinite(value):
        yield place, value
    elif isinstance(value, Mapping):
        for key, part in value.items():
            yield from _not_finite(part, f"{place}.{key}" if place else str(key))
    elif isinstance(value, (list, tuple)):
        for index, part in enumerate(value):
            yield from _not_finite(part, f"{place}[{index}]")


def flush_file(path: Path) -> None:
    """Makes sure that the bytes of a file are on the disk."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def flush_folder(folder: Path) -> None:
    """Makes the names in a folder last, where the system can."""
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def flush_tree(path: Path) -> None:
    """Makes sure that a file, or a folder with all that it holds, is on the disk."""
    if not path.is_dir():
        flush_file(path)
        return
    for folder, _, names in os.walk(path):
        for name in names:
            flush_file(Path(folder, name))
        flush_folder(Path(folder))

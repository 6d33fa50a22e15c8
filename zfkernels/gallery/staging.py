"""Results appear whole or not at all: written into a folder of their own, then moved to where they belong."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

PREFIX = ".unfinished-"


@contextmanager
def staged(out: Path, order: Sequence[str], function: str) -> Iterator[Path]:
    """A temporary folder inside ``out``; what the block leaves in it replaces the entries of the same name in ``out``.

    If the block raises, ``out`` is as it was; folders that had to be made for it are removed.

    Args:
        out: The folder of the results; made if it does not exist.
        order: Names of the entries, in the order in which they are moved; others are discarded. The last one is
            there only while all are complete.
        function: In whose name to complain.

    Raises:
        OSError: ``out`` cannot be made or written to.
    """
    made = make_folder(out, function)
    try:
        staging = Path(tempfile.mkdtemp(prefix=PREFIX, dir=out))
    except OSError as error:
        remove_empty(made)
        raise unwritable(out, error, function) from error
    try:
        yield staging
        try:
            _move(staging, out, order)
        except OSError as error:
            raise unwritable(out, error, function) from error
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        remove_empty(made)
        raise
    shutil.rmtree(staging)


def _move(staging: Path, out: Path, order: Sequence[str]) -> None:
    for name in order:
        flush(staging / name)
    (out / order[-1]).unlink(missing_ok=True)
    for name in order:
        new, old = staging / name, out / name
        if old.is_dir():
            os.replace(old, staging / f"old-{name}")  # a folder cannot be replaced in one step
        os.replace(new, old)


def flush(path: Path) -> None:
    """Makes sure that the bytes are on the disk before the name says so."""
    for file in path.rglob("*") if path.is_dir() else (path,):
        if file.is_file():
            with open(file, "rb") as handle:
                os.fsync(handle.fileno())


def make_folder(folder: Path, function: str) -> list[Path]:
    """Makes a folder and those above it; returns the ones that did not exist, innermost first."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        remove_empty(missing)
        raise unwritable(folder, error, function) from error
    return missing


def remove_empty(folders: Sequence[Path]) -> None:
    for folder in folders:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def unwritable(out: Path, error: OSError, function: str) -> OSError:
    return OSError(f"{function}: expected out a folder that can be written, got {out} ({error.strerror or error})")

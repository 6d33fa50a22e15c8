"""Where results may not go: into the data or around it, or over a file of somebody else's."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

MARK, HEAD_BYTES = b"zfkernels", 1 << 12  # what a picture or a report of ours has near its beginning


def check_out(function: str, out: str | os.PathLike[str], data: Iterable[Path]) -> Path:
    """``out`` as a path, if results may be written there.

    Args:
        function: In whose name to complain.
        out: The folder of the results, which need not exist.
        data: Files and folders that the images come from.

    Raises:
        ValueError: ``out`` is empty, or it is, holds or lies in the data.
    """
    if not os.fspath(out):
        raise ValueError(f"{function}: expected out the name of a folder, got ''")
    here = _lineage(Path(out))
    for path in data:
        there = _lineage(path)
        if here[0] in there or there[0] in here:
            relation = "is" if here[0] == there[0] else "lies in" if there[0] in here else "holds"
            raise ValueError(
                f"{function}: expected out a folder apart from the data, got {os.fspath(out)}, which {relation} {path}"
            )
    return Path(out)


def check_file(function: str, path: Path) -> None:
    """Refuses to replace a file that does not say in its first or last bytes that this package wrote it.

    Raises:
        ValueError: There is such a file.
    """
    try:
        with open(path, "rb") as file:
            ours = MARK in file.read(HEAD_BYTES)
            file.seek(max(0, path.stat().st_size - HEAD_BYTES))
            ours = ours or MARK in file.read()  # a PDF says it at its end
    except FileNotFoundError:
        return
    if not ours:
        raise ValueError(
            f"{function}: expected a new file to write, or one that zfkernels wrote, got {path}, which exists"
        )


def local_paths(data: Any) -> list[Path]:
    """The path on this machine that ``data``, as ``zfkernels.data.open_source`` takes it, names; none for others.

    A data set of torchvision's style names its folder in ``root``; a pattern of shards stands for itself.
    """
    place = data if isinstance(data, (str, os.PathLike)) else getattr(data, "place", getattr(data, "root", None))
    if not isinstance(place, (str, os.PathLike)) or "://" in os.fspath(place) or place == "embedded":
        return []
    return [Path(place)]


def _lineage(path: Path) -> list[object]:
    """What a path is, and then the folders that it lies in: the same thing under another name is the same here."""
    real = Path(os.path.realpath(path))
    return [_identity(part) for part in (real, *real.parents)]


def _identity(path: Path) -> object:
    try:
        status = path.stat()
    except OSError:  # not there yet
        return path
    return status.st_dev, status.st_ino

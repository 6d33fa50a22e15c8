"""Where image files lie: a folder, archives, or a single file. Bytes only; what they mean is none of its business."""

from __future__ import annotations

import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from zfkernels.data.walk import File, LeftOut, Problems, files_below
from zfkernels.data.walk import Folder as FolderEntry


class Store(ABC):
    """Lists (key, place) and reads a place. Travels to worker processes; open handles do not.

    Attributes:
        problems: (key, reason) of what could not be listed; complete once ``entries`` is exhausted.
        seeks: Reading in the order of the places is cheaper than in any other.
    """

    seeks = True

    def __init__(self) -> None:
        self.problems: Problems = []

    @abstractmethod
    def entries(self) -> Iterator[tuple[str, Any]]:
        """All files, in no particular order: the path inside the store, and what ``read`` takes."""

    def inside(self, key: str, place: Any) -> str:
        """The part of a key that is a path inside the folder or archive."""
        return key

    @abstractmethod
    def read(self, place: Any, limit: int) -> bytes:
        """The bytes of the file at ``place``, at most ``limit`` of them."""

    @abstractmethod
    def mark(self, place: Any) -> object:
        """What changes when the file at ``place`` changes: size and time, or a checksum."""


class Folder(Store):
    """The files of a folder and its subfolders, or one of them."""

    seeks = False

    def __init__(self, path: Path, only: str | None = None) -> None:
        super().__init__()
        self.path, self.only = path, only

    def entries(self) -> Iterator[tuple[str, str]]:
        if self.only is not None:
            return iter([(self.only, self.only)])
        return files_below(FolderEntry("", self._identity("")), self._list, self.problems)

    def _list(self, folder: str) -> Iterator[tuple[str, File | FolderEntry | LeftOut]]:
        with os.scandir(self.path / folder) as entries:
            for entry in entries:
                place = os.path.join(folder, entry.name)
                try:
                    if entry.is_dir():
                        yield entry.name, FolderEntry(place, self._identity(place))
                    elif entry.is_file():
                        yield entry.name, File(place)
                    elif entry.is_symlink() and not os.path.exists(entry.path):
                        yield entry.name, LeftOut("a link to nothing")
                    else:  # a pipe would be waited for
                        yield entry.name, LeftOut("not a regular file")
                except OSError as error:
                    yield entry.name, LeftOut(error.strerror or str(error))

    def _identity(self, folder: str) -> tuple[int, int]:
        status = os.stat(self.path / folder)
        return status.st_dev, status.st_ino

    def read(self, place: str, limit: int) -> bytes:
        path = self.path / place
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # it was one when the folder was listed
            raise OSError("not a regular file")
        if status.st_size > limit:  # rather than read so much in vain
            raise OSError(f"larger than {limit >> 20} MiB")
        with open(path, "rb") as file:
            return file.read(limit)

    def mark(self, place: str) -> object:
        try:
            status = os.stat(self.path / place)
        except OSError as error:  # it is gone; reading it will say so
            return error.strerror
        return status.st_size, status.st_mtime_ns

"""Where image files lie: a folder, an archive, or a single file. Bytes only; what they mean is none of its business."""

from __future__ import annotations

import gzip
import lzma
import os
import tarfile
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ARCHIVE_SUFFIXES = frozenset((".zip", ".tar", ".tgz", ".gz", ".tbz", ".bz2", ".txz", ".xz"))
BROKEN_ARCHIVE = (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError)


class Store(ABC):
    """Lists (key, place) and reads a place. Travels to worker processes; open handles do not.

    Attributes:
        problems: (key, reason) of what could not be listed; complete once ``entries`` is exhausted.
        seeks: Reading in the order of the places is cheaper than in any other.
    """

    seeks = True

    def __init__(self, path: Path) -> None:
        self.path = path
        self.problems: list[tuple[str, str]] = []

    @abstractmethod
    def entries(self) -> Iterator[tuple[str, Any]]:
        """All files, in no particular order: the printable path inside the store, and what ``read`` takes."""

    @abstractmethod
    def read(self, place: Any, limit: int) -> bytes:
        """The bytes of the file at ``place``, at most ``limit`` of them."""


def open_store(path: Path) -> Store:
    """The store at ``path``, by what it is and not by its suffix.

    Raises:
        FileNotFoundError: The path does not exist.
        ValueError: An archive that cannot be read.
    """
    if not path.exists():
        raise FileNotFoundError(f"open_source: expected data an existing folder, archive or image, got {path}")
    if path.is_dir():
        return _Folder(path)
    try:
        if zipfile.is_zipfile(path):
            return _Zip(path)
        if tarfile.is_tarfile(path):
            return _Tar(path)
    except BROKEN_ARCHIVE as error:
        raise ValueError(f"open_source: expected data an archive that can be read, got {path} ({error})") from error
    if path.suffix.lower() in ARCHIVE_SUFFIXES:
        raise ValueError(f"open_source: expected data an archive that can be read, got {path}")
    return _File(path)


class _Folder(Store):
    seeks = False

    def entries(self) -> Iterator[tuple[str, str]]:
        def unreadable(error: OSError) -> None:
            self.problems.append((_printable(str(error.filename)), f"folder cannot be read: {error.strerror}"))

        for folder, _, names in os.walk(self.path, onerror=unreadable):
            for name in names:
                relative = os.path.relpath(os.path.join(folder, name), self.path)
                yield _printable(relative), relative

    def read(self, place: str, limit: int) -> bytes:
        with open(self.path / place, "rb") as file:
            return file.read(limit)


class _File(_Folder):
    """One file of a folder."""

    def __init__(self, path: Path) -> None:
        super().__init__(path.parent)
        self.file = path.name

    def entries(self) -> Iterator[tuple[str, str]]:
        yield _printable(self.file), self.file


class _Archive(Store):
    """Opened once in each process: a handle shared by forked workers would share its position."""

    _opened: tuple[int, Any] | None = None

    def _handle(self) -> Any:
        if self._opened is None or self._opened[0] != os.getpid():
            self._opened = (os.getpid(), self._open())
        return self._opened[1]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None}

    @abstractmethod
    def _open(self) -> Any: ...


class _Zip(_Archive):
    def _open(self) -> zipfile.ZipFile:
        return zipfile.ZipFile(self.path)

    def entries(self) -> Iterator[tuple[str, tuple[int, str]]]:
        for info in self._handle().infolist():
            if not info.is_dir():
                yield _printable(info.filename), (info.header_offset, info.filename)

    def read(self, place: tuple[int, str], limit: int) -> bytes:
        with self._handle().open(place[1]) as file:
            return file.read(limit)


class _Tar(_Archive):
    def _open(self) -> tarfile.TarFile:
        return tarfile.open(self.path)

    def entries(self) -> Iterator[tuple[str, tuple[int, int]]]:
        with self._open() as archive:  # a handle of its own: it keeps the whole index, reading by offset needs none
            try:
                for member in archive:
                    if member.isreg():
                        yield _printable(member.name), (member.offset_data, member.size)
            except BROKEN_ARCHIVE as error:
                self.problems.append((_printable(str(self.path)), f"the archive breaks off: {error}"))

    def read(self, place: tuple[int, int], limit: int) -> bytes:
        offset, size = place
        file = self._handle().fileobj
        file.seek(offset)
        data = file.read(min(size, limit))
        if len(data) < min(size, limit):
            raise EOFError("the archive ends inside this file")
        return data


def _printable(name: str) -> str:
    """A name with ``/`` between its parts and without bytes that no text file can hold."""
    return os.fsencode(name).decode("utf-8", "backslashreplace").replace(os.sep, "/")

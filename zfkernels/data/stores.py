"""Where image files lie: a folder, archives, or a single file. Bytes only; what they mean is none of its business."""

from __future__ import annotations

import gzip
import lzma
import os
import stat
import tarfile
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
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

    def __init__(self) -> None:
        self.problems: list[tuple[str, str]] = []

    @abstractmethod
    def entries(self) -> Iterator[tuple[str, Any]]:
        """All files, in no particular order: the printable path inside the store, and what ``read`` takes."""

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
            yield printable(self.only), self.only
            return

        def unreadable(error: OSError) -> None:
            name = os.path.relpath(error.filename, self.path)
            self.problems.append((printable(name), f"folder cannot be read: {error.strerror}"))

        for folder, _, names in os.walk(self.path, onerror=unreadable):
            for name in names:
                relative = os.path.relpath(os.path.join(folder, name), self.path)
                yield printable(relative), relative

    def read(self, place: str, limit: int) -> bytes:
        path = self.path / place
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would be waited for
            raise OSError("not a regular file")
        with open(path, "rb") as file:
            return file.read(limit)

    def mark(self, place: str) -> object:
        try:
            status = os.stat(self.path / place)
        except OSError as error:  # a link to nowhere; reading it will say so
            return error.strerror
        return status.st_size, status.st_mtime_ns


class Archive(Store):
    """An archive file, opened once in each process: a handle shared by forked workers would share its position.

    Args:
        name: what to call it in messages.
        open_file: opens it for reading, with seek.
        stamp: what changes when the archive changes.
    """

    _opened: tuple[int, Any] | None = None

    def __init__(self, name: str, open_file: Callable[[], Any], stamp: object) -> None:
        super().__init__()
        self.name, self.open_file, self.stamp = name, open_file, stamp

    def _handle(self) -> Any:
        if self._opened is None or self._opened[0] != os.getpid():
            self._opened = (os.getpid(), self._open())
        return self._opened[1]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None}

    @abstractmethod
    def _open(self) -> Any: ...


class Zip(Archive):
    def _open(self) -> zipfile.ZipFile:
        return zipfile.ZipFile(self.open_file())

    def entries(self) -> Iterator[tuple[str, tuple[int, str]]]:
        for info in self._handle().infolist():
            if not info.is_dir():
                yield printable(info.filename), (info.header_offset, info.filename)

    def read(self, place: tuple[int, str], limit: int) -> bytes:
        with self._handle().open(place[1]) as file:
            return file.read(limit)

    def mark(self, place: tuple[int, str]) -> object:
        info = self._handle().getinfo(place[1])
        return info.file_size, info.CRC


class Tar(Archive):
    def _open(self) -> tarfile.TarFile:
        return tarfile.open(fileobj=self.open_file())

    def entries(self) -> Iterator[tuple[str, tuple[int, int]]]:
        with self._open() as archive:  # a handle of its own: it keeps the whole index, reading by offset needs none
            try:
                for member in archive:
                    if member.isreg():
                        yield printable(member.name), (member.offset_data, member.size)
            except BROKEN_ARCHIVE as error:
                self.problems.append((printable(self.name), f"the archive breaks off: {error}"))

    def read(self, place: tuple[int, int], limit: int) -> bytes:
        offset, size = place
        file = self._handle().fileobj
        file.seek(offset)
        data = file.read(min(size, limit))
        if len(data) < min(size, limit):
            raise EOFError("the archive ends inside this file")
        return data

    def mark(self, place: tuple[int, int]) -> object:
        return self.stamp


class Shards(Store):
    """Several archives as one store, such as the shards of a WebDataset; keys begin with the archive's name."""

    def __init__(self, shards: Sequence[Archive]) -> None:
        super().__init__()
        self.shards = list(shards)

    def entries(self) -> Iterator[tuple[str, tuple[int, Any]]]:
        for index, shard in enumerate(self.shards):
            for key, place in shard.entries():
                yield f"{printable(shard.name)}/{key}", (index, place)
            self.problems += shard.problems

    def read(self, place: tuple[int, Any], limit: int) -> bytes:
        return self.shards[place[0]].read(place[1], limit)

    def mark(self, place: tuple[int, Any]) -> object:
        return self.shards[place[0]].mark(place[1])


def as_archive(name: str, open_file: Callable[[], Any], stamp: object) -> Archive | None:
    """The archive in a file, by what it is and not by its suffix; None where it is none.

    Raises:
        ValueError: It has the suffix of an archive, or begins like one, and cannot be read.
    """
    problem = ""
    try:
        with open_file() as file:
            if zipfile.is_zipfile(file):
                return Zip(name, open_file, stamp)
            file.seek(0)
            if tarfile.is_tarfile(file):
                return Tar(name, open_file, stamp)
    except BROKEN_ARCHIVE as error:
        problem = f" ({error})"
    if problem or Path(name).suffix.lower() in ARCHIVE_SUFFIXES:
        raise ValueError(f"open_source: expected data an archive that can be read, got {name}{problem}")
    return None


def printable(name: str) -> str:
    """A name with ``/`` between its parts and without bytes that no text file can hold."""
    return os.fsencode(name).decode("utf-8", "backslashreplace").replace(os.sep, "/")

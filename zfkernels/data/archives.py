"""Archives as stores: zip and tar, also compressed, alone or several as one."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import stat
import struct
import tarfile
import zipfile
import zlib
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from zfkernels.data.names import printable
from zfkernels.data.stores import Store
from zfkernels.data.walk import File, LeftOut, Tree

ARCHIVE_SUFFIXES = frozenset((".zip", ".tar", ".tgz", ".gz", ".tbz", ".bz2", ".txz", ".xz"))
ZIP_STARTS = (b"PK\3\4", b"PK\5\6")  # of a member, of the end of an empty archive
ZIP_END = b"PK\5\6"
COMPRESSIONS: dict[bytes, Callable[[Any], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\0": partial(lzma.open, format=lzma.FORMAT_XZ),
}
BLOCK = tarfile.BLOCKSIZE
AFTER_END = 20 * BLOCK  # zeros with which tar fills up
MAX_TAR_HEADER, MAX_ZIP_DIRECTORY = 1 << 24, 1 << 30  # bytes; a directory of some ten million members
MAX_PADDING = 1 << 17  # zeros behind compressed data, which tapes have
MAX_LINK = 4096

# What the archive readers of the standard library raise on damaged archives, besides what is said for it.
BROKEN_ARCHIVE = (
    zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, struct.error, OSError, ValueError,
    RuntimeError, LookupError, OverflowError,
)  # fmt: skip


class _Bounded:
    """A file of which nobody reads more than ``limit`` bytes at once, whatever a header asks for."""

    def __init__(self, file: Any, limit: int) -> None:
        self.file, self.limit = file, limit

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def read(self, size: int | None = -1) -> bytes:
        wanted = self.limit + 1 if size is None or size < 0 else size
        data: bytes = self.file.read(min(wanted, self.limit + 1))
        if len(data) > self.limit:
            raise EOFError(f"a header of more than {self.limit:,} bytes")
        return data


class _Padded:
    """A compressed file; gzip reads the zeros behind the data one by one, and there may be gigabytes of them."""

    def __init__(self, file: Any) -> None:
        self.file, self.zeros = file, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def read(self, size: int = -1) -> bytes:
        data: bytes = self.file.read(size)
        self.zeros = self.zeros + 1 if data == b"\0" else 0
        if self.zeros > MAX_PADDING:
            raise EOFError("zeros without end follow the compressed data")
        return data


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

    def entries(self) -> Iterator[tuple[str, Any]]:
        tree = Tree(self.problems)
        self._list(tree)
        return tree.files()

    def _handle(self) -> Any:
        if self._opened is None or self._opened[0] != os.getpid():
            self._opened = (os.getpid(), self._open())
        return self._opened[1]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None}

    @abstractmethod
    def _list(self, tree: Tree) -> None:
        """Adds all members to ``tree``."""

    @abstractmethod
    def _open(self) -> Any: ...

    def _says(self, problem: str) -> None:
        self.problems.append((printable(self.name), problem))


class Zip(Archive):
    """Places are (where the member begins, its number in the directory)."""

    def _open(self) -> zipfile.ZipFile:
        return zipfile.ZipFile(_Bounded(self.open_file(), MAX_ZIP_DIRECTORY))

    def _list(self, tree: Tree) -> None:
        try:
            members = self._handle().infolist()
        except BROKEN_ARCHIVE as error:
            raise ValueError(_unreadable(self.name, error)) from error
        for number, info in enumerate(members):
            kind = stat.S_IFMT(info.external_attr >> 16)
            if info.filename.endswith("/"):
                tree.add(info.filename, None)
                if info.file_size:  # a name that is damaged, or a program's private notes
                    self.problems.append((printable(info.filename), "a folder with content"))
            elif kind == stat.S_IFLNK:
                try:
                    target = self.read((0, number), MAX_LINK).decode("utf-8", "surrogateescape")
                except BROKEN_ARCHIVE as error:
                    tree.add(info.filename, LeftOut(f"a link that cannot be read: {printable(str(error))}"))
                else:
                    tree.add(info.filename, None, link=target)
            elif kind not in (0, stat.S_IFREG):
                tree.add(info.filename, LeftOut("not a regular file"))
            else:
                tree.add(info.filename, File((info.header_offset, number)))
        self._check_count(len(members))

    def _check_count(self, found: int) -> None:
        """A damaged directory may be shorter than the archive's end says it is, which zipfile does not look at."""
        with self.open_file() as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - (1 << 16) - 22))
            tail = file.read()
        declared = tail[tail.rfind(ZIP_END) :][10:12]  # modulo 65,536 where there are more
        if len(declared) == 2 and declared != b"\xff\xff" and int.from_bytes(declared, "little") != found % (1 << 16):
            self._says(f"damaged: {found} members, its end says {int.from_bytes(declared, 'little')}")

    def read(self, place: tuple[int, int], limit: int) -> bytes:
        handle = self._handle()
        with handle.open(handle.infolist()[place[1]]) as file:
            data: bytes = file.read(limit)
        return data

    def mark(self, place: tuple[int, int]) -> object:
        info = self._handle().infolist()[place[1]]
        return info.file_size, info.CRC


class Tar(Archive):
    """Places are (offset, bytes), in what the archive is when it is decompressed."""

    def _open(self) -> Any:
        file = self.open_file()
        start = file.read(max(map(len, COMPRESSIONS)))
        file.seek(0)
        for magic, decompress in COMPRESSIONS.items():
            if start.startswith(magic):
                return decompress(_Padded(file))
        return file

    def _list(self, tree: Tree) -> None:
        with self._open() as file:  # a handle of its own: the index is not needed to read by offset
            try:
                archive = tarfile.TarFile(fileobj=_Bounded(file, MAX_TAR_HEADER))
                for member in archive:
                    if member.size < 0 or archive.offset <= member.offset:
                        raise tarfile.ReadError(f"{printable(member.name)} has a size of {member.size} bytes")
                    self._add(tree, member)
                self._check_end(file, archive.offset)
            except BROKEN_ARCHIVE as error:
                self._says(f"the archive breaks off: {printable(str(error))}")

    def _check_end(self, file: Any, offset: int) -> None:
        """tarfile takes a damaged header for the end of the archive."""
        file.seek(offset)
        end = file.read(AFTER_END)
        if not end:
            self._says("the archive has no end: it may have been cut off")
        elif end[:BLOCK].strip(b"\0"):
            self._says(f"the archive breaks off: a damaged header at byte {offset:,}")
        elif end.strip(b"\0"):
            self._says(f"something follows the end of the archive at byte {offset:,}")

    @staticmethod
    def _add(tree: Tree, member: tarfile.TarInfo) -> None:
        if member.isdir():
            tree.add(member.name, None)
        elif member.issym() or member.islnk():
            tree.add(member.name, None, link=member.linkname, hard=member.islnk())
        elif member.issparse():
            tree.add(member.name, LeftOut("a file with holes, which cannot be read here"))
        elif member.isreg():
            tree.add(member.name, File((member.offset_data, member.size)))
        else:
            tree.add(member.name, LeftOut("not a regular file"))

    def read(self, place: tuple[int, int], limit: int) -> bytes:
        offset, size = place
        file = self._handle()
        file.seek(offset)
        data: bytes = file.read(min(size, limit))
        if len(data) < min(size, limit):
            raise EOFError("the archive ends inside this file")
        return data

    def mark(self, place: tuple[int, int]) -> object:
        return self.stamp


class Shards(Store):
    """Several archives as one store, such as the shards of a WebDataset; keys begin with the archive's name.

    Args:
        shards: Archives of different names.
    """

    def __init__(self, shards: Sequence[Archive]) -> None:
        super().__init__()
        self.shards = list(shards)

    def entries(self) -> Iterator[tuple[str, tuple[int, Any]]]:
        for index, shard in enumerate(self.shards):
            for key, place in shard.entries():
                yield f"{shard.name}/{key}", (index, place)
            for key, reason in shard.problems:
                name = printable(shard.name)
                self.problems.append((name if key == name else f"{name}/{key}", reason))

    def inside(self, key: str, place: tuple[int, Any]) -> str:
        return key[len(printable(self.shards[place[0]].name)) + 1 :]

    def read(self, place: tuple[int, Any], limit: int) -> bytes:
        return self.shards[place[0]].read(place[1], limit)

    def mark(self, place: tuple[int, Any]) -> object:
        return self.shards[place[0]].mark(place[1])


def as_archive(name: str, open_file: Callable[[], Any], stamp: object) -> Archive | None:
    """The archive in a file, by its first bytes and not by its suffix; None where it is none.

    Raises:
        ValueError: It has the suffix of an archive, or begins like one, and cannot be read.
    """
    named = Path(name).suffix.lower() in ARCHIVE_SUFFIXES
    with open_file() as file:
        start = file.read(BLOCK)
    if start.startswith(ZIP_STARTS):
        return Zip(name, open_file, stamp)
    tar = Tar(name, open_file, stamp)
    compressed = start.startswith(tuple(COMPRESSIONS))
    try:
        if compressed:
            with tar._open() as file:
                start = file.read(BLOCK)
        if start == bytes(BLOCK):  # an empty archive, or no archive at all
            return tar if named or compressed else None
        tarfile.TarInfo.frombuf(start, "utf-8", "surrogateescape")
        return tar
    except BROKEN_ARCHIVE as error:
        if named or compressed:
            raise ValueError(_unreadable(name, error)) from error
    return None


def _unreadable(name: str, error: BaseException) -> str:
    return f"open_source: expected data an archive that can be read, got {printable(name)} ({printable(str(error))})"

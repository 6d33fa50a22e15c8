"""From what a user writes to the store that it means: paths, patterns of shards, and addresses of remote files."""

from __future__ import annotations

import glob
import itertools
import os
import posixpath
import re
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from zfkernels._extras import require
from zfkernels.data.archives import Archive, Shards, as_archive
from zfkernels.data.names import is_hidden
from zfkernels.data.stores import Folder, Store

_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}|\{([^{}]*,[^{}]*)\}")
SHARD_SUFFIXES = (".tar", ".tar.gz", ".tgz")


def open_store(data: str | os.PathLike[str]) -> Store:
    """The store that ``data`` names.

    Args:
        data: A folder, an archive or an image; several archives as a pattern (``shards-{000..012}.tar``,
            ``part-*.tar``) or as a folder that holds nothing but tar files; or an address of fsspec's
            (``s3://bucket/photos``).

    Raises:
        FileNotFoundError: There is nothing.
        ValueError: An archive that cannot be read.
        ImportError: fsspec, or what it needs for this kind of address, is missing.
    """
    text = os.fspath(data)
    if "://" in text:
        return _remote(text)
    path = Path(text)
    if path.is_dir():
        shards = _only_shards(path)
        return _shards(shards, _local_archive) if shards else Folder(path)
    if path.exists():
        return _local_archive(text, text) or Folder(path.parent, path.name)
    shards = [name for pattern in _expand(text) for name in sorted(glob.glob(pattern))]
    if not shards or not _is_pattern(text):
        raise FileNotFoundError(f"open_source: expected data an existing folder, archive or image, got {text}")
    return _shards(shards, _local_archive)


def _is_pattern(text: str) -> bool:
    return glob.has_magic(text) or _RANGE.search(text) is not None


def _expand(pattern: str) -> list[str]:
    """``a-{00..02}.tar`` → three names, ``{train,val}.tar`` → two; further braces likewise."""
    found = _RANGE.search(pattern)
    if not found:
        return [pattern]
    first, last, words = found.groups()
    middle = words.split(",") if words else [str(n).zfill(len(first)) for n in range(int(first), int(last) + 1)]
    rests = _expand(pattern[found.end() :])
    return [pattern[: found.start()] + word + rest for word, rest in itertools.product(middle, rests)]


def _only_shards(folder: Path) -> list[str]:
    """The tar files of a folder that holds no other visible files or folders."""
    try:
        visible = sorted(path for path in folder.iterdir() if not is_hidden(path.name))
    except OSError:
        return []
    return list(map(str, visible)) if all(p.name.endswith(SHARD_SUFFIXES) and p.is_file() for p in visible) else []


def _shards(paths: list[str], open_archive: Callable[[str, str], Archive | None]) -> Shards:
    """Several archives as one store; ``open_archive`` takes a path and what to call it."""
    archives = []
    for path, name in zip(paths, _shard_names(paths), strict=True):
        archive = open_archive(path, name)
        if archive is None:
            raise ValueError(f"open_source: expected data shards that are archives, got {path}")
        archives.append(archive)
    return Shards(archives)


def _shard_names(paths: list[str]) -> list[str]:
    """What the keys of several archives begin with: their names, with the folders in which they lie if need be.

    Raises:
        ValueError: One of them is there twice.
    """
    names = [posixpath.basename(path) for path in paths]
    if len(set(names)) < len(names):
        full = [posixpath.normpath(path) for path in paths]
        twice = [path for path, count in Counter(full).items() if count > 1]
        if twice:
            raise ValueError(f"open_source: expected data shards that are named once, got {twice[0]} twice")
        top = posixpath.commonpath(full)
        names = [posixpath.relpath(path, top) for path in full]
    return names


def _local_archive(text: str, name: str) -> Archive | None:
    """The archive at a path; None where the file is no archive.

    Raises:
        ValueError: It is no regular file, which might never end, or an archive that cannot be read.
    """
    path = Path(text)
    if not path.is_file():
        raise ValueError(f"open_source: expected data a folder or a regular file, got {path}, which is neither")
    return as_archive(name, partial(open, path, "rb"), _stamp(path))


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


class _RemoteFolder(Store):
    """The files below an address of fsspec's. Each process connects for itself."""

    seeks = False

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url = url
        self._marks: dict[str, object] = {}

    def entries(self) -> Any:
        fs, root = _connect(self.url)
        for path, info in fs.find(root, detail=True).items():
            self._marks[path] = [info.get(key) for key in ("size", "ETag", "mtime", "created", "LastModified")]
            key = path[len(root) :].lstrip("/")
            if not any(map(is_hidden, key.split("/"))):
                yield key, path

    def read(self, place: str, limit: int) -> bytes:
        return _connect(self.url)[0].cat_file(place, 0, limit)

    def mark(self, place: str) -> object:
        return self._marks[place]


def _connect(url: str) -> tuple[Any, str]:
    """The file system of an address and the path in it; fsspec keeps one connection for each process."""
    return require("fsspec", "distributed").core.url_to_fs(url)


def _open_remote(protocol: str, path: str) -> BinaryIO:
    return _connect(f"{protocol}://{path}")[0].open(path, "rb")


def _remote(url: str) -> Store:
    fs, root = _connect(url)
    protocol = url.split("://")[0]

    def archive(path: str, name: str) -> Archive | None:
        info = fs.info(path)
        return as_archive(
            name, partial(_open_remote, protocol, path), [info.get(key) for key in ("size", "ETag", "mtime")]
        )

    if _is_pattern(url):
        paths = [path for pattern in _expand(root) for path in sorted(fs.glob(pattern))]
        if paths:
            return _shards(paths, archive)
    elif fs.isdir(root):
        return _RemoteFolder(url)
    elif fs.exists(root) and (found := archive(root, url)):
        return found
    raise FileNotFoundError(f"open_source: expected data an existing folder or archives, got {url}")

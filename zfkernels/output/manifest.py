"""What a folder of results holds of ours: each entry, each file in it, and results that are just being moved there.

The manifest is what tells a result, which the next run may replace, from what somebody else put there. A file counts as
ours while it has the size that it was written with.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zfkernels.output.files import write_json

MANIFEST = "manifest.json"
# The size of a file; the sizes of the files of a folder, by path in it; or None: a run keeps changing the entry.
Record = int | dict[str, int] | None


@dataclass(frozen=True)
class Publishing:
    """Results that are being moved from a folder beside the manifest to where they belong.

    Attributes:
        source: Name of that folder.
        entries: What is moved, in order. The last one is there only while all are.
        checksums: CRC-32 of each file, by its path from the folder.
    """

    source: str
    entries: Mapping[str, Record]
    checksums: Mapping[str, int]

    def is_damaged(self, out: Path, home: Path) -> bool:
        """Whether a file is not as it was written, on either side of the move; the folder itself may be gone."""
        source = home / self.source
        for name in self.entries:
            place = source if os.path.lexists(source / name) else out
            found = checksums_of(place, [name])
            if found != {path: crc for path, crc in self.checksums.items() if path.split("/")[0] == name}:
                return True
        return False


@dataclass(frozen=True)
class Manifest:
    """What is ours in a folder.

    Attributes:
        entries: By name.
        publishing: Moves that have begun; whoever finds them finishes them.
    """

    entries: Mapping[str, Record] = field(default_factory=dict)
    publishing: Publishing | None = None

    @classmethod
    def load(cls, home: Path) -> Manifest:
        """The manifest in the folder ``home``; an empty one if there is none.

        Raises:
            ValueError: It is damaged.
        """
        path = home / MANIFEST
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content.pop("sha256") != _digest(content):
                raise ValueError("its digest is another")
            moving = content["publishing"]
            found = cls(content["entries"], None if moving is None else Publishing(**moving))
            for name in (*found.entries, *((moving["source"], *moving["entries"]) if moving else ())):
                if name in ("", ".", "..") or os.path.basename(name) != name:
                    raise ValueError(f"{name!r} is no name of an entry")
            return found
        except FileNotFoundError:
            return cls()
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(
                f"expected a whole manifest of the results, got {path} ({error}); use another folder, or remove the "
                "manifest and what is there of earlier results"
            ) from error

    def save(self, home: Path) -> None:
        moving = self.publishing
        content: dict[str, Any] = {
            "entries": dict(self.entries),
            "publishing": None
            if moving is None
            else {"source": moving.source, "entries": dict(moving.entries), "checksums": dict(moving.checksums)},
        }
        write_json(home / MANIFEST, {**content, "sha256": _digest(content)})

    def foreign(self, out: Path, names: Iterable[str]) -> str | None:
        """A path in ``out``, among the entries of these names, that is not ours; None if there is none."""
        for name in names:
            if os.path.lexists(out / name):
                if name not in self.entries:
                    return name
                for path in _not_recorded(out / name, self.entries[name]):
                    return os.path.relpath(path, out)
        return None

    def whole(self, out: Path, names: Iterable[str]) -> bool:
        """Whether the entries of these names are ours, and there with all their files."""
        return all(name in self.entries and _is_whole(out / name, self.entries[name]) for name in names)


def record_of(path: Path) -> Record:
    """The sizes of a file, or of the files of a folder."""
    if not path.is_dir():
        return path.stat().st_size
    files = (Path(folder, name) for folder, _, names in os.walk(path) for name in names)
    return {file.relative_to(path).as_posix(): file.stat().st_size for file in sorted(files)}


def checksums_of(folder: Path, names: Iterable[str]) -> dict[str, int]:
    """CRC-32 of each file of the entries of a folder, by its path from there."""
    found = {}
    for name in names:
        tree = [folder / name] if not (folder / name).is_dir() else sorted((folder / name).rglob("*"))
        for file in tree:
            if file.is_file() and not file.is_symlink():
                with file.open("rb") as stream:
                    crc = 0
                    while part := stream.read(1 << 22):
                        crc = zlib.crc32(part, crc)
                found[file.relative_to(folder).as_posix()] = crc
    return found


def _not_recorded(path: Path, record: Record) -> Iterator[Path]:
    """What lies at ``path`` and is not as it was recorded."""
    if record is None:
        return
    if isinstance(record, int):
        if _size(path) != record:
            yield path
    elif path.is_symlink() or not path.is_dir():
        yield path
    else:
        for folder, folders, names in os.walk(path):
            for name in names:
                file = Path(folder, name)
                if _size(file) != record.get(file.relative_to(path).as_posix()):
                    yield file
            yield from (Path(folder, name) for name in folders if Path(folder, name).is_symlink())


def _is_whole(path: Path, record: Record) -> bool:
    files = record.items() if isinstance(record, dict) else [("", record)]
    return all(_size(path / name if name else path) == size for name, size in files)


def _size(path: Path) -> int | None:
    """The size of a regular file; None for anything else."""
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()

"""All files below a folder, on a disk or in an archive, links followed as the file system follows them."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Any, NamedTuple

from zfkernels.data.names import MAX_NAME, is_hidden, printable

TIMES = 64  # names under which one folder is walked through: links to links would multiply without end
HOPS = 40  # links on the way to one file, as of Linux

Problems = list[tuple[str, str]]  # (printable path, why it is left out)


class File(NamedTuple):
    """A regular file, or a link to one; ``place`` is what a store reads."""

    place: Any


class Folder(NamedTuple):
    """A folder, or a link to one.

    Attributes:
        node: What ``list_folder`` takes.
        identity: The same for every name of one folder.
    """

    node: Any
    identity: Hashable


class LeftOut(NamedTuple):
    """Anything else."""

    reason: str


Listing = Callable[[Any], Iterable[tuple[str, "File | Folder | LeftOut"]]]


def files_below(root: Folder, list_folder: Listing, problems: Problems) -> Iterator[tuple[str, Any]]:
    """(path, place) of all files below a folder but the hidden ones.

    Args:
        root: Where to begin.
        list_folder: The names in a folder, and what each is; may raise OSError.
        problems: Takes what is left out.
    """
    waiting: list[tuple[str, Folder, tuple[Hashable, ...]]] = [("", root, ())]
    times: Counter[Hashable] = Counter()
    while waiting:
        path, folder, above = waiting.pop()
        times[folder.identity] += 1
        if folder.identity in above:
            problems.append((printable(path), "a link to a folder that it lies in"))
            continue
        if times[folder.identity] > TIMES:
            problems.append((printable(path), f"a folder with more than {TIMES} names"))
            continue
        try:
            for name, entry in list_folder(folder.node):
                if is_hidden(name):
                    continue
                if isinstance(entry, Folder):
                    waiting.append((f"{path}{name}/", entry, (*above, folder.identity)))
                elif isinstance(entry, File):
                    yield path + name, entry.place
                else:
                    problems.append((printable(path + name), entry.reason))
        except OSError as error:
            problems.append((printable(path.rstrip("/") or "."), f"folder cannot be read: {error.strerror or error}"))


class Link(NamedTuple):
    """A link in an archive.

    Attributes:
        target: A path, as it stands there.
        folder: Names of the folders in which the link lies; a hard link begins at the top.
    """

    target: str
    folder: tuple[str, ...]


class Tree:
    """The members of an archive, as the folder would have them into which it is unpacked: the last of a name counts.

    Attributes:
        problems: What is left out.
    """

    def __init__(self, problems: Problems) -> None:
        self.problems = problems
        self._root: dict[str, Any] = {}

    def add(self, name: str, member: File | LeftOut | None, link: str | None = None, hard: bool = False) -> None:
        """Takes in a member: a folder if it is None, a link if it has a target."""
        parts = tuple(part for part in name.split("/") if part not in ("", "."))
        entry: Any = {} if member is None else member
        if link is not None:
            entry = Link(link, () if hard else parts[:-1])
            if link.startswith("/") and not hard:
                entry = LeftOut("a link that leads out of the archive")
        problem = self._put(name, parts, entry)
        if problem:
            self.problems.append((printable(name[:MAX_NAME]), problem))

    def _put(self, name: str, parts: tuple[str, ...], entry: Any) -> str | None:
        """Gives an entry its place, and says what is left out for that, if anything is."""
        if len(name) > MAX_NAME:
            return f"a name of {len(name):,} characters"
        if ".." in parts:
            return "a path that leads out of the archive"
        if not parts:
            return None if entry == {} else "a member without a name"
        folder = self._root
        for part in parts[:-1]:
            folder = folder.setdefault(part, {})
            if not isinstance(folder, dict):
                return "a member below what is no folder"
        before = folder.get(parts[-1])
        if isinstance(before, dict):
            return None if entry == {} else "a member with the name of a folder"
        folder[parts[-1]] = entry
        return None if before is None else "a later member has the same name"

    def files(self) -> Iterator[tuple[str, Any]]:
        """(path, place) of all files that are not hidden."""
        return files_below(Folder(self._root, id(self._root)), self._list, self.problems)

    def _list(self, folder: dict[str, Any]) -> Iterator[tuple[str, File | Folder | LeftOut]]:
        for name, node in folder.items():
            if isinstance(node, Link):
                node = self._follow(node)
            yield name, Folder(node, id(node)) if isinstance(node, dict) else node

    def _follow(self, link: Link) -> dict[str, Any] | File | LeftOut:
        """What a link leads to, by the rules of the file system."""
        lost = LeftOut("a link to what the archive does not hold")
        at: list[Any] = [self._root]  # from the top down
        rest = deque((*link.folder, *link.target.split("/")))
        hops = 0
        while rest:
            part = rest.popleft()
            if part in ("", "."):
                continue
            if part == "..":
                if len(at) == 1:
                    return lost
                at.pop()
                continue
            node = at[-1].get(part) if isinstance(at[-1], dict) else None
            if isinstance(node, Link):
                hops += 1
                if hops > HOPS:
                    return LeftOut("a link to itself")
                if not node.folder:  # a hard link, or a link at the top anyway
                    del at[1:]
                rest.extendleft(reversed(node.target.split("/")))
            elif node is None:
                return lost
            else:
                at.append(node)
        return at[-1]

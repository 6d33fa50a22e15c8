"""A folder of results: one run at a time, results that appear whole or not at all, nothing of others touched.

All that is ours beside the results lies in one hidden folder. There a run prepares its results. Publishing is a small
state machine, so that it can be cut off at any moment:

1. the manifest says what is going to be moved, before the first move;
2. what is replaced is moved away, and the results are moved to where they belong, the last entry last;
3. the folder that they came from is moved away;
4. the manifest says what is there now.

Whoever finds a manifest of step 1 does what is left of the steps 2 to 4. What was moved away is deleted at the end.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from zfkernels._extras import require
from zfkernels.output.files import flush_folder, flush_tree
from zfkernels.output.manifest import Manifest, Publishing, checksums_of, record_of

HOME = ".zfkernels"
LOCK, TRASH, NEW = "lock", "trash", "new-"
# Seconds to wait for the lock: the workers of a run that was killed hold it until they notice.
PATIENCE = 20.0
UNWRITABLE = (errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOTDIR, errno.EEXIST)


@contextmanager
def working_in(out: Path, function: str, *, kept: str = "nothing in it was replaced") -> Iterator[Path]:
    """The hidden folder of ``out``, for the time of the block for nobody else; what a killed run left is dealt with.

    If the block leaves nothing behind, no folder that had to be made stays.

    Args:
        out: The folder of the results; made if it does not exist.
        function: In whose name to complain.
        kept: What to say of the results if the disk is full.

    Raises:
        OSError: ``out`` cannot be made or written to, another run works in it, or the disk is full.
        ValueError: The manifest is damaged, or results of a killed run cannot be moved into place without replacing
            what is not ours.
    """
    filelock = require("filelock", "viz")
    home = out / HOME
    made = [path for path in (home, *home.parents) if not path.exists()]
    try:
        home.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(home / LOCK, timeout=PATIENCE):
            try:
                finish(out, function)
                _clear(home)
                yield home
            finally:
                if {path.name for path in home.iterdir()} <= {LOCK}:
                    (home / LOCK).unlink(missing_ok=True)
    except filelock.Timeout as error:
        raise OSError(f"{function}: expected out in which no other run works, got {out}") from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OSError(f"{function}: the disk of {out} is full; {kept}") from error
        if error.errno in UNWRITABLE and _concerns(error, out):
            reason = error.strerror or error
            raise OSError(f"{function}: expected out a folder that can be written, got {out} ({reason})") from error
        raise
    finally:
        for folder in made:
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()


@contextmanager
def staged(out: Path, names: Sequence[str], function: str) -> Iterator[Path]:
    """A folder to write results into; at the end of the block its entries replace those of the same names in ``out``.

    If the block raises, ``out`` is as it was; folders that had to be made for it are removed.

    Args:
        out: The folder of the results; made if it does not exist.
        names: Of the entries, in the order in which they are moved; others are discarded. The last one is there only
            while all are complete.
        function: In whose name to complain.

    Raises:
        OSError: See ``working_in``.
        ValueError: ``out`` holds something of such a name that this package did not write.
    """
    with working_in(out, function) as home:
        refuse_foreign(out, names, function)
        folder = Path(tempfile.mkdtemp(prefix=NEW, dir=home))
        try:
            yield folder
            publish(out, folder.name, names, function)
        finally:
            if Manifest.load(home).publishing is None:  # else the next run finishes it
                _clear(home)


def refuse_foreign(out: Path, names: Iterable[str], function: str) -> None:
    """Refuses a folder with something under the name of a result that this package did not write.

    Raises:
        ValueError: The message names the first such file or folder.
    """
    _refuse(Manifest.load(out / HOME).foreign(out, names), out, function)


def _refuse(found: str | None, out: Path, function: str) -> None:
    if found is not None:
        raise ValueError(
            f"{function}: expected out without a file or folder of a result's name that zfkernels did not write, or "
            f"that was changed since, got {out} with {found} (use another folder, or move it away)"
        )


def claim(out: Path, names: Sequence[str], function: str, *, known: bool = False) -> None:
    """Says that entries of ``out`` are ours that a run writes to all the time, before it writes to them.

    Args:
        out: The folder of the results; made if it does not exist.
        names: Of the entries.
        function: In whose name to complain.
        known: ``out`` holds a record of an earlier run, so that what is there is ours.

    Raises:
        OSError: See ``working_in``.
        ValueError: ``out`` holds something of such a name that this package did not write.
    """
    with working_in(out, function) as home:
        if not known:
            refuse_foreign(out, names, function)
        manifest = Manifest.load(home)
        Manifest({**manifest.entries, **dict.fromkeys(names)}).save(home)


def publish(out: Path, source: str, names: Sequence[str], function: str) -> None:
    """Moves results to where they belong; what was there before goes.

    Args:
        out: Where they belong; locked by ``working_in``.
        source: Name of the folder in the hidden folder that holds them; it goes too.
        names: As of ``staged``.
        function: In whose name to complain.

    Raises:
        ValueError: Something that this package did not write is in the way.
    """
    home = out / HOME
    for name in names:
        flush_tree(home / source / name)
    flush_folder(home / source)
    refuse_foreign(out, names, function)  # again: it was long ago that anybody looked
    entries = {name: record_of(home / source / name) for name in names}
    moving = Publishing(source, entries, checksums_of(home / source, names))
    Manifest(Manifest.load(home).entries, moving).save(home)
    _move(out, function)


def finish(out: Path, function: str) -> None:
    """Does what is left of a publishing that was cut off, if one was; results damaged meanwhile are thrown away."""
    home = out / HOME
    manifest = Manifest.load(home)
    moving = manifest.publishing
    if moving is None:
        return
    if not moving.is_damaged(out, home):
        _move(out, function)
        return
    source = home / moving.source
    moved = [name for name in moving.entries if not os.path.lexists(source / name)]
    _refuse(Manifest(moving.entries).foreign(out, moved), out, function)
    for name in moved:
        move_away(out / name, home)
    move_away(source, home)
    Manifest({name: record for name, record in manifest.entries.items() if name not in moved}).save(home)
    empty_trash(home)


def _move(out: Path, function: str) -> None:
    """The moves of a publishing that are still to be made."""
    home = out / HOME
    manifest = Manifest.load(home)
    assert manifest.publishing is not None
    source, entries = home / manifest.publishing.source, manifest.publishing.entries
    *first, last = entries
    waiting = [name for name in (*first, last) if os.path.lexists(source / name)]
    refuse_foreign(out, waiting, function)
    if last in waiting:
        move_away(out / last, home)
    for name in waiting:
        move_away(out / name, home)
        os.rename(source / name, out / name)
    flush_folder(out)
    move_away(source, home)
    Manifest({**manifest.entries, **entries}).save(home)
    empty_trash(home)


def move_away(path: Path, home: Path) -> None:
    """Takes something out of the way in one step, on disk; ``empty_trash`` deletes it."""
    if not os.path.lexists(path):
        return
    trash = home / TRASH
    trash.mkdir(exist_ok=True)
    free = next(trash / str(n) for n in count() if not os.path.lexists(trash / str(n)))
    os.rename(path, free)
    flush_folder(path.parent)


def empty_trash(home: Path) -> None:
    """Deletes what was moved away."""
    shutil.rmtree(home / TRASH, ignore_errors=True)


def _clear(home: Path) -> None:
    """Deletes what no run will ask for again."""
    empty_trash(home)
    for path in home.glob(f"{NEW}*"):
        shutil.rmtree(path, ignore_errors=True)


def _concerns(error: OSError, out: Path) -> bool:
    """Whether an error is about the folder of the results, and not about the data."""
    if not isinstance(error.filename, (str, os.PathLike)):
        return True
    path, here = Path(os.path.abspath(error.filename)), Path(os.path.abspath(out))
    return here in (path, *path.parents) or path in here.parents

"""The folder of a run: one run at a time, the same run again after a crash, results moved out when all are there."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from zfkernels._extras import require
from zfkernels.gallery.checkpoint import flush_folder, write_json
from zfkernels.gallery.staging import flush, make_folder, remove_empty, unwritable

NAME = "build_gallery"
STATE, LOCK, RUN = ".unfinished", ".lock", "run.json"
# gallery.json comes last: where it is, the rest is too.
ENTRIES = ("maps", "images", "topk.parquet", "index.html", "gallery.json")
# Seconds to wait for the lock: the workers of a run that was killed hold it until they notice.
PATIENCE = 20.0


class Workplace:
    """State and results of one run in the folder ``out``.

    Attributes:
        out: Where the results go.
        state: Where everything is until the run is complete.
        complete: The results of this very run are there already.
    """

    def __init__(self, out: Path) -> None:
        self.out, self.state = out, out / STATE
        self.complete = False

    def begin(self, run: Mapping[str, Any], resume: bool) -> None:
        """Takes up the run where it was left, or begins it.

        Args:
            run: Whatever must not change from one call to the next, as JSON has it.
            resume: False throws away what is there.

        Raises:
            ValueError: ``out`` holds another run; the message says what differs.
        """
        run = json.loads(json.dumps(run))
        if not resume:
            shutil.rmtree(self.state, ignore_errors=True)
        elif (before := self._before()) is not None and (changed := differences(before, run)):
            raise ValueError(
                f"build_gallery: expected out without another run, got {self.out} with one of other "
                f"{'; '.join(changed)} (resume=False, or --fresh, starts anew)"
            )
        elif not (self.state / RUN).exists() and (self.out / ENTRIES[-1]).exists():
            self.complete = True
        if self.complete:
            shutil.rmtree(self.state, ignore_errors=True)
        else:
            self.state.mkdir(exist_ok=True)
            if not (self.state / RUN).exists():
                write_json(self.state / RUN, run)

    def publish(self) -> None:
        """Moves the results to where they belong; what was there before goes."""
        for name in ENTRIES:
            flush(self.state / name)
        (self.out / ENTRIES[-1]).unlink(missing_ok=True)
        for name in ENTRIES:
            if not (self.state / name).exists():  # moved before a crash
                continue
            if (self.out / name).is_dir():
                shutil.rmtree(self.state / f"old-{name}", ignore_errors=True)
                os.replace(self.out / name, self.state / f"old-{name}")
            os.replace(self.state / name, self.out / name)
        flush_folder(self.out)
        shutil.rmtree(self.state, ignore_errors=True)

    def forget(self) -> None:
        """Drops a run that was begun in an empty folder and got nowhere; call it under the lock."""
        alone = {path.name for path in self.out.glob("*")} <= {LOCK, STATE}
        if alone and {path.name for path in self.state.glob("*")} == {RUN}:
            shutil.rmtree(self.state)

    def _before(self) -> dict[str, Any] | None:
        """The run that ``out`` holds, unfinished or finished; None for none."""
        for path in (self.state / RUN, self.out / ENTRIES[-1]):
            try:
                found = json.loads(path.read_text(encoding="utf-8"))
            except FileNotFoundError:
                continue
            except ValueError as error:
                raise ValueError(
                    f"build_gallery: expected a whole file, got {path} ({error}); resume=False (--fresh) starts anew"
                ) from error
            return found if path.name == RUN else found.get("run", {})
        return None


@contextmanager
def workplace(out: Path) -> Iterator[Workplace]:
    """A place to work in, locked for the time of the block.

    Raises:
        OSError: ``out`` cannot be made or written to, another run works in it, or the disk is full.
    """
    filelock = require("filelock", "viz")
    made = make_folder(out, NAME)
    place = Workplace(out)
    lock = filelock.FileLock(out / LOCK, timeout=PATIENCE)
    try:
        with lock:
            try:
                yield place
            finally:
                place.forget()
    except filelock.Timeout as error:
        raise OSError(f"build_gallery: expected out in which no other run works, got {out}") from error
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise OSError(
                f"build_gallery: the disk of {out} is full; what is done is kept, and the same call goes on from there"
            ) from error
        if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOTDIR, errno.EEXIST, errno.EDQUOT):
            raise unwritable(out, error, NAME) from error
        raise
    finally:
        _tidy(place, made)


def differences(before: Mapping[str, Any], now: Mapping[str, Any], path: str = "") -> list[str]:
    """What differs between two runs, in words."""
    found = []
    for key in sorted({*before, *now}):
        name, old, new = f"{path}{key}", before.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            found += differences(old, new, f"{name}.")
        elif old != new:
            found.append(f"{name}: {_short(old)} before, {_short(new)} now")
    return found


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _tidy(place: Workplace, made: Sequence[Path]) -> None:
    """Leaves nothing behind where nothing was begun."""
    if place.out.is_dir() and {path.name for path in place.out.iterdir()} <= {LOCK}:
        (place.out / LOCK).unlink(missing_ok=True)
    remove_empty(made)

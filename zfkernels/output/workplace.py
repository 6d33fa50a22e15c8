"""The state of a run: begun once, taken up by the same run after a crash, gone when the results are in place."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from zfkernels.output.files import write_json
from zfkernels.output.folder import HOME, empty_trash, move_away, publish, refuse_foreign, working_in
from zfkernels.output.manifest import Manifest

STATE, RUN = "state", "run.json"
RUN_PARTS = {"model", "data", "options", "versions"}
ANEW = "resume=False (--fresh) starts anew"


class Workplace:
    """State and results of one run in the folder ``out``.

    Attributes:
        out: Where the results go.
        function: In whose name to complain.
        entries: Names of the results. The last one is a record in JSON with the run as ``"run"``: where it is, the rest
            is too.
        state: Where everything is until the run is complete.
        complete: The results of this very run are there already.
    """

    def __init__(self, out: Path, function: str, entries: Sequence[str]) -> None:
        self.out, self.home, self.function, self.entries = out, out / HOME, function, tuple(entries)
        self.state = self.home / STATE
        self.complete = False

    def begin(self, run: Mapping[str, Any], resume: bool) -> None:
        """Takes up the run where it was left, or begins it.

        Args:
            run: Whatever must not change from one call to the next, as JSON has it.
            resume: False throws away what is there.

        Raises:
            ValueError: ``out`` holds another run; the message says what differs. Or it holds something under the name
                of a result that this package did not write.
        """
        run = json.loads(json.dumps(run))
        begun = self._begun()
        if resume:
            before = begun if begun is not None else self._finished()
            if before is not None and (changed := differences(before, run)):
                raise ValueError(
                    f"{self.function}: expected out without another run, got {self.out} with one of other "
                    f"{'; '.join(changed)} (resume=False, or --fresh, starts anew)"
                )
            self.complete = (
                begun is None and before is not None and Manifest.load(self.home).whole(self.out, self.entries)
            )
        if not self.complete:
            refuse_foreign(self.out, self.entries, self.function)
        if self.complete or not resume or begun is None:
            self.forget()
        if not self.complete and not self.state.exists():
            self.state.mkdir()
            write_json(self.state / RUN, run)

    @property
    def run_digest(self) -> str:
        """SHA-256 of the run that was begun."""
        run = json.loads((self.state / RUN).read_text(encoding="utf-8"))
        return hashlib.sha256(json.dumps(run, sort_keys=True).encode()).hexdigest()

    def publish(self) -> None:
        """Moves the results to where they belong; what was there before goes."""
        publish(self.out, STATE, self.entries, self.function)

    def forget(self) -> None:
        """Throws the state away."""
        move_away(self.state, self.home)
        empty_trash(self.home)

    def discard(self, path: Path) -> None:
        """Takes a part of the state away."""
        move_away(path, self.home)

    def _begun(self) -> dict[str, Any] | None:
        """The run whose state is there; None where there is none, or none that can be told."""
        try:
            run = json.loads((self.state / RUN).read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return None
        return run if isinstance(run, dict) and run.keys() >= RUN_PARTS else None

    def _finished(self) -> dict[str, Any] | None:
        """The run whose results are there; None where there are none of ours."""
        path = self.out / self.entries[-1]
        if path.name not in Manifest.load(self.home).entries:
            return None
        try:
            run = json.loads(path.read_text(encoding="utf-8"))["run"]
            return {**run}
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(
                f"{self.function}: expected a whole record of a run, got {path} ({error}); {ANEW}"
            ) from error


@contextmanager
def workplace(out: Path, function: str, entries: Sequence[str]) -> Iterator[Workplace]:
    """A place to work in, for the time of the block for nobody else.

    Raises:
        OSError: ``out`` cannot be made or written to, another run works in it, or the disk is full.
    """
    with working_in(out, function, kept="what is done is kept, and the same call goes on from there") as home:
        place = Workplace(out, function, entries)
        try:
            yield place
        finally:
            state = {path.name for path in place.state.glob("*")}
            if state == {RUN} and {path.name for path in home.iterdir()} <= {STATE, "lock"}:  # it got nowhere
                shutil.rmtree(place.state)


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

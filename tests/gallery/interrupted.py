"""Interrupts a run at its n-th step, for many n, runs it to the end and compares with a run that nobody interrupted.

python interrupted.py gallery PHOTOS FOLDER --ending kill --every 7: builds a gallery in forks of one process, so that
each starts at once. ``--every 1`` interrupts at every step. ``fresh`` starts another network's gallery over a state of
the first; ``project`` does what the command does. Prints what it found as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from click.testing import CliRunner
from small import OPTIONS, SMALL, other_network, small_network
from steps import Clock, watch

from zfkernels.cli.app import app
from zfkernels.gallery import build_gallery, checkpoint
from zfkernels.store import journal, store_sweeps

CHANGING = ("seconds", "spent", "peak_memory_bytes")  # entries of gallery.json that no two runs share
FULL = "is full"


def build(photos: str, out: Path, fresh: bool = False) -> None:
    network = other_network() if fresh else small_network()
    build_gallery(network, photos, out=out, **{**OPTIONS, "batch_size": 4}, resume=not fresh)


def project(photos: str, out: Path) -> None:
    options = ["project", "--model", "small:small_network", "--data", photos, "--layer", "4", "--out", str(out)]
    result = CliRunner().invoke(app, [*options, "--workers", "0"])
    if result.exit_code:
        raise OSError(result.stderr)


def sweeps(photos: str, out: Path) -> None:
    network = torch.nn.Sequential(small_network(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()).eval()
    store_sweeps(network, photos, out=out, window=9, stride=8, preprocess=SMALL, format="npz")


def in_a_fork(work: Callable[[], None], out: Path, clock: Clock, report: Path) -> int | None:
    """Does the work in a process of its own; its exit code (1: the disk was full), None if it was killed."""
    child = os.fork()
    if child == 0:
        code = 99
        try:
            watch(out, clock)
            work()
            code = 0
        except OSError as error:
            code = 1 if FULL in str(error) and "\n" not in str(error).strip() else 98
            report.write_text(repr(error))
        except BaseException as error:  # noqa: BLE001  # the parent says what it was
            report.write_text(repr(error))
        finally:
            if code == 0:
                report.write_text(json.dumps(clock.taken))
            os._exit(code)  # whatever happens, the fork must not go on as its parent
    _, status = os.waitpid(child, 0)
    return None if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def contents(folder: Path) -> dict[str, bytes]:
    """Everything that must not depend on how often a run was interrupted."""
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    files = {name: data for name, data in files.items() if not name.startswith(".zfkernels")}
    if "gallery.json" in files:
        record = json.loads(files.pop("gallery.json"))
        files["record"] = json.dumps({key: value for key, value in record.items() if key not in CHANGING}).encode()
    hidden = {path.name for path in (folder / ".zfkernels").iterdir()}
    return {**files, "hidden": repr(sorted(hidden)).encode()}


def chosen(steps: list[str], every: int, publishing: int) -> list[int]:
    """Every so many-th step of the passes, and every so many-th of publishing."""
    first = next(n for n, step in enumerate(steps, 1) if "manifest" in step)
    return [*range(1, first, every), *range(first, len(steps) + 1, publishing)]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("gallery", "fresh", "project", "sweeps"))
    parser.add_argument("photos")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--ending", choices=("kill", "full"), default="kill")
    parser.add_argument("--every", type=int, default=1, help="Interrupt at every so many-th step of the passes,")
    parser.add_argument("--publishing", type=int, default=1, help="and at every so many-th of publishing.")
    arguments = parser.parse_args()
    folder, photos = arguments.folder, arguments.photos
    torch.set_num_threads(1)  # threads do not survive a fork
    checkpoint.SECONDS = journal.SECONDS = 0  # after every batch, and image
    whole, out, report = folder / "whole", folder / "out", folder / "report"
    start = time.monotonic()

    def work() -> None:
        if arguments.what == "project":
            project(photos, out)
        elif arguments.what == "sweeps":
            sweeps(photos, out)
        else:
            build(photos, out, arguments.what == "fresh")

    def prepare() -> None:
        shutil.rmtree(out, ignore_errors=True)
        if arguments.what == "fresh":  # another network's state, almost complete
            shutil.copytree(folder / "state", out)

    def run(clock: Clock) -> int | None:
        return in_a_fork(work, out, clock, report)

    build(photos, folder / "warm")  # loads everything, so that the forks need not
    if arguments.what == "sweeps":
        sweeps(photos, folder / "warm sweeps")
    if arguments.what == "fresh":
        probe = Clock(None, "kill")
        shutil.rmtree(out, ignore_errors=True)
        assert in_a_fork(lambda: build(photos, out), out, probe, report) == 0
        steps = json.loads(report.read_text())
        last = next(n for n, step in enumerate(steps, 1) if "topk.parquet" in step)
        shutil.rmtree(out)
        assert in_a_fork(lambda: build(photos, out), out, Clock(last, "kill"), report) is None
        shutil.copytree(out, folder / "state")
    prepare()
    assert run(Clock(None, arguments.ending)) == 0, report.read_text()
    steps = json.loads(report.read_text())
    shutil.rmtree(whole, ignore_errors=True)
    shutil.copytree(out, whole)
    numbers = chosen(steps, arguments.every, arguments.publishing)
    ended: dict[str, int] = {}
    wrong: list[Any] = []
    for number in numbers:
        prepare()
        code = run(Clock(number, arguments.ending))
        ended[str(code)] = ended.get(str(code), 0) + 1
        if code not in ({"kill": (None, 0), "full": (1, 0)}[arguments.ending]):
            wrong.append([number, steps[number - 1], report.read_text()])
            continue
        again = run(Clock(None, arguments.ending))
        if again != 0 or contents(out) != contents(whole):
            there = contents(out) if again == 0 else {}
            differs = sorted(name for name in contents(whole) if there.get(name) != contents(whole)[name])
            wrong.append([number, steps[number - 1], again, report.read_text()[:500] if again else differs[:5]])
    found = {
        "what": arguments.what, "ending": arguments.ending, "steps": len(steps), "tried": len(numbers),
        "ended": ended, "wrong": wrong, "seconds": round(time.monotonic() - start),
    }  # fmt: skip
    print(json.dumps(found))


if __name__ == "__main__":
    main()

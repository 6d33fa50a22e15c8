"""Plants each slip of the tables in a copy of the tree and runs the tests that have to see it: ``make mutants``.

A slip is caught where a test fails (or crashes, or hangs); it survives where all pass. The tests have to pass on the
tree as it is. The exit status is 0 if at least 95 of 100 were caught and every survivor is explained in its table.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import resource
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from copying import WORK, make_copy, planted
from results import Result, page, read, report
from slips import Kind, Slip, kinds, problem

LIMIT = 240  # seconds of the processor for the tests of one slip: a slip may make them hang
SHARED = 5  # times longer it may take on a machine that does other things too
PASSED, FAILED = 0, 1  # pytest's exit statuses; others mean that nothing was tested
SHORT = (  # names of slips of all kinds whose tests are quick
    "parts of a filter do not add up", "a NaN in a row is not looked at again", "a window's second tile is its first",
    "the place of an output in 32 bits", "the first filter of a group by its block",
    "a fill is read where there is none", "what an earlier source had",
    "ties by the order of the stream", "cells pasted by the frame's height",
    "windows that lost their pixel get a gradient",
)  # fmt: skip


def forked(work: Callable[[], int], log: Path, limit: int) -> int | str:
    """The exit status of ``work`` in a process of its own that has all imports of this one, or how it ended."""
    child = os.fork()
    if child == 0:
        status = 70
        with contextlib.suppress(BaseException), log.open("w") as file:
            os.setpgid(0, 0)
            resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
            for stream in (1, 2):
                os.dup2(file.fileno(), stream)
            status = work()
            sys.stdout.flush()
        os._exit(status)
    ends = time.monotonic() + SHARED * limit
    while time.monotonic() < ends:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
            hangs = code in (-signal.SIGXCPU, -signal.SIGKILL)
            return code if code >= 0 else "hangs" if hangs else signal.Signals(-code).name
        time.sleep(0.02)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "hangs"


def tested(copy: Path, tests: str, pick: str, way: str, kernels: str) -> Callable[[], int]:
    """Runs pytest in a copy; to be called in a process of its own."""

    def work() -> int:
        import hypothesis
        import pytest

        # The first example will do, however large.
        phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
        hypothesis.settings.register_profile("mutants", phases=phases, database=None)
        sys.dont_write_bytecode = True
        os.chdir(copy)
        sys.path[:] = [str(copy), *sys.path[1:]]  # without this folder
        os.environ["SIMT_WAY"] = way
        if kernels:
            os.environ["SIMT_KERNELS"] = kernels
        import zfkernels

        if not Path(zfkernels.__file__).is_relative_to(copy):
            print(f"expected zfkernels from {copy}, got {zfkernels.__file__}")
            return 71
        options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--tb=line", "-W", "ignore",
                   "--hypothesis-profile=mutants"]  # fmt: skip
        return int(pytest.main([*options, tests, *(["-k", pick] if pick else [])]))

    return work


def tests_of(slip: Slip, kind: Kind) -> str:
    return slip.tests or kind.tests


def check_clean(kind: Kind) -> list[str]:
    """What fails of the tests that look at the slips, on the tree as it is; nothing if all is well."""
    picks: dict[tuple[str, str], list[str]] = {}
    for slip in kind.slips:
        picks.setdefault((tests_of(slip, kind), slip.way), []).append(slip.pick)
    failed = []
    for (tests, way), chosen in picks.items():
        pick = "" if "" in chosen else " or ".join(f"({one})" for one in dict.fromkeys(chosen))
        log = WORK / f"{kind.name}.log"
        status = forked(tested(WORK / kind.name, tests, pick, way, ""), log, 20 * LIMIT)
        if status != PASSED:
            failed.append(f"{tests} -k '{pick}' on the tree as it is: {status}\n{log.read_text()[-2000:]}")
    return failed


def judge(slip: Slip, kind: Kind) -> Result:
    """Plants the slip, runs its tests.

    Raises:
        RuntimeError: it does not compile, or no test ran.
    """
    start, log, copy = time.monotonic(), WORK / f"{kind.name}.log", WORK / kind.name
    kernels = f"{slip.op}_kernel" if kind.name == "cuda" else ""
    with planted(slip, copy, build=kind.name == "cpp"):
        status = forked(tested(copy, tests_of(slip, kind), slip.pick, slip.way, kernels), log, LIMIT)
    said = log.read_text(errors="replace")
    if isinstance(status, int) and status not in (PASSED, FAILED):
        raise RuntimeError(f"{slip.name}: no test ran to its end, pytest's status is {status}:\n{said[-2000:]}")
    if "failed:" in said and "c++" in said and " -c " in said:
        raise RuntimeError(f"{slip.name}: it does not compile:\n{said[-2000:]}")
    by = status if isinstance(status, str) else ""
    if status == FAILED:
        failed = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - |$)", said, re.MULTILINE)
        by = failed.group(1) if failed else "?"
    elif status == PASSED and not re.search(r"[1-9]\d* passed", said):
        raise RuntimeError(f"{slip.name}: none of its tests ran:\n{said[-2000:]}")
    return Result(kind.name, slip.name, slip.file, status != PASSED, by, time.monotonic() - start)


def run_kind(kind: Kind, out: Path, *, clean: bool, until: float) -> None:
    """Judges the slips of a kind in this process, which is the kind's own; appends results to ``out``."""
    if kind.interpreted:
        os.environ["TRITON_INTERPRET"] = "1"
    os.environ["OMP_NUM_THREADS"] = "1"
    import numpy
    import pytest
    import torch

    if kind.interpreted:
        import triton  # noqa: F401
    del numpy, pytest, torch
    make_copy(WORK / kind.name)
    for failure in check_clean(kind) if clean else []:
        sys.exit(f"mutants: {failure}")
    broken = 0
    for slip in kind.slips:
        if time.monotonic() > until:
            break
        try:
            found = judge(slip, kind)
        except RuntimeError as error:
            print(f"mutants: {error}", flush=True)
            broken += 1
            continue
        said = "caught  " if found.caught else "SURVIVED"
        print(f"{said} {found.seconds:5.1f} s  {kind.name}: {slip.name}  {found.by}", flush=True)
        with out.open("a") as file:
            file.write(json.dumps(found.__dict__) + "\n")
    if broken:
        sys.exit(f"mutants: {broken} slips of the kind {kind.name} are not fit to be judged")


def chosen(arguments: argparse.Namespace, done: set[tuple[str, str]]) -> list[Kind]:
    """The slips that are asked for and were not judged yet."""
    found = []
    for kind in kinds():
        slips = tuple(s for s in kind.slips if not arguments.only or any(o in s.name for o in arguments.only))
        if arguments.short:
            slips = tuple(slip for slip in slips if slip.name in SHORT)
        slips = tuple(slip for slip in slips if (kind.name, slip.name) not in done)
        if slips and (not arguments.kind or kind.name in arguments.kind):
            found.append(replace(kind, slips=slips))
    return found


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [kind.name for kind in kinds()]
    parser.add_argument("--kind", action="append", choices=names, help="of the kernels; several: all of these")
    parser.add_argument("--only", action="append", help="slips with this in their name")
    parser.add_argument("--short", action="store_true", help="ten slips")
    parser.add_argument("--resume", action="store_true", help="leaves out what the run before has judged")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begins no slip after so long")
    parser.add_argument("--unclean", action="store_true", help="does not run the tests on the tree as it is")
    parser.add_argument("--processes", type=int, default=2, help="kinds at once (default %(default)s)")
    parser.add_argument("--table", type=Path, help="where all results so far go as a page of Markdown")
    arguments = parser.parse_args(argv)
    wrong = [said for kind in kinds() for slip in kind.slips if (said := problem(slip))]
    if wrong:
        print("mutants: the tables are behind the tree:", *wrong, sep="\n  ")
        return 2
    out = WORK / "results.jsonl"
    if not arguments.resume:
        out.unlink(missing_ok=True)
    done = {(r.kind, r.name) for r in read(out)}
    todo = chosen(arguments, done)
    if not todo and not done:
        parser.error(f"expected --only, --kind and --short to pick a slip, got {arguments.only}")
    until = time.monotonic() + arguments.seconds
    running: set[int] = set()
    broken = False
    while todo or running:
        while todo and len(running) < arguments.processes:
            kind = todo.pop(0)
            child = os.fork()
            if child == 0:
                run_kind(kind, out, clean=not arguments.unclean, until=until)
                os._exit(0)
            running.add(child)
        child, status = os.wait()
        running.remove(child)
        broken |= status != 0
    results = read(out)
    if arguments.table is not None:
        arguments.table.write_text(page(results))
    return 2 if broken else report(results)


if __name__ == "__main__":
    sys.exit(main())

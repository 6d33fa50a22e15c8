"""Sweeps and ops on a GPU, one command: python benchmarks/gpu.py [--only TEXT] [--seconds 600] [--tune-seconds 60].

What says the most comes first: sweeps of whole networks against the dense pass, then the ops on the headline shapes of
``tools/gpu_code``, then other networks, backends and precisions. Each result is checked before it is timed; a line
is printed as soon as it is known, and kept in ``gpu-results.json`` and ``.csv`` (``--out``). What is wrong or does not
fit is said, and the others go on; the exit status is 1 then. ``--check`` takes no times: with ``--device cpu
--shapes small`` and ``TRITON_INTERPRET=1`` it tries the script and the kernels' numbers where there is no GPU.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent / "tools"))  # what reads compiled kernels

import gpu_ops
import gpu_sweeps
import torch
from gpu_clock import synchronize
from gpu_code import cases
from gpu_journal import Journal
from gpu_machine import about, refusal, remarks

OP_SECONDS = 15  # a line of an op, torch.compile's included: an estimate, nobody has measured it
TUNE = "ZFKERNELS_TUNE"


@dataclass(frozen=True)
class Line:
    """Something to run: what it is called, the seconds that it should take, and how."""

    name: str
    seconds: float
    run: Callable[[Journal], None]


def sweep_lines(options: argparse.Namespace, sweeps: tuple, backends: tuple, precisions: tuple) -> list[Line]:
    kept: dict[gpu_sweeps.SweepCase, gpu_sweeps.Subject] = {}

    def line(case: gpu_sweeps.SweepCase, backend: str, precision: str) -> Line:
        def run(journal: Journal) -> None:
            if case not in kept:
                kept.clear()  # one network's memory at a time
                kept[case] = gpu_sweeps.Subject(case, options.device)
            gpu_sweeps.run_ours(kept[case], backend, precision, options.rounds, journal)

        return Line(f"{case.name}/{backend}/{precision}", case.seconds(backend), run)

    return [line(*chosen) for chosen in ((c, b, p) for b in backends for c in sweeps for p in precisions)]


def op_lines(options: argparse.Namespace, shapes: tuple[cases.Case, ...]) -> list[Line]:
    dtype = getattr(torch, options.dtype)
    return [
        Line(
            f"{case.op}/{case.name}", OP_SECONDS,
            lambda journal, case=case: gpu_ops.run(case, dtype, options.device, options.rounds, journal),
        )
        for case in shapes
    ]  # fmt: skip


def plan(options: argparse.Namespace) -> list[Line]:
    """All lines that were asked for, the most valuable first."""
    if options.shapes == "small":
        found = sweep_lines(options, gpu_sweeps.SMALL, ("triton",), ("float32", "tf32"))  # what a CPU sweeps
        found += op_lines(options, cases.SMALL)
    else:
        found = sweep_lines(options, gpu_sweeps.FIRST, ("triton",), ("float16", "float32"))
        found += op_lines(options, cases.CASES)
        found += sweep_lines(options, gpu_sweeps.OTHERS, ("triton",), ("float16",))
        found += sweep_lines(options, gpu_sweeps.FIRST, ("cuda",), ("float16", "float32"))
        found += sweep_lines(options, gpu_sweeps.FIRST, ("triton",), ("tf32", "bfloat16"))
    return [line for line in found if not options.only or any(text in line.name for text in options.only)]


def run(lines: list[Line], options: argparse.Namespace, journal: Journal) -> None:
    """Runs the lines in the time there is; one that fails is said, unless the GPU no longer answers."""
    start = time.perf_counter()
    for number, line in enumerate(lines):
        left = options.seconds - (time.perf_counter() - start)
        if line.seconds > left:
            journal.say(line.name, "", f"left out: about {line.seconds:.0f} s, {max(left, 0):.0f} s are left")
            continue
        try:
            line.run(journal)
        except torch.OutOfMemoryError as error:
            journal.say(line.name, "", f"too little memory: {_first_line(error)}")
        except Exception as error:  # noqa: BLE001  whatever a compiler or a driver may raise: it becomes a line
            journal.say(line.name, "", "FAILS", f"{type(error).__name__}: {_first_line(error)}")
        try:
            synchronize(options.device)
        except RuntimeError as error:
            rest = " ".join(f"--only {later.name}" for later in lines[number + 1 :])
            journal.say(line.name, "", "FAILS", f"the GPU answers no more ({_first_line(error)}); the rest: {rest}")
            return
        if options.device == "cuda":
            torch.cuda.empty_cache()


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [""])[0][:300]


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", default=[], help="lines with this in their name; may be repeated")
    parser.add_argument("--shapes", default="headline", choices=("headline", "small"))
    parser.add_argument("--dtype", default="float16", choices=("float32", "float16", "bfloat16"), help="of the ops")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--list", action="store_true", help="name the lines and their seconds, and run nothing")
    parser.add_argument("--check", action="store_true", help="compare the results and take no times")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="leave out lines that would not fit")
    parser.add_argument("--tune-seconds", type=float, default=0, help="so long, measure tiles and keep the winners")
    parser.add_argument("--out", type=Path, default=Path("gpu-results"), help="JSON and CSV, without the ending")
    options = parser.parse_args(arguments)
    if options.check:
        options.rounds = 0
    return options


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    lines = plan(options)
    if not lines:
        print(f"gpu.py: expected --only to name some line, got {options.only}", file=sys.stderr)
        return 2
    if options.list:
        print("\n".join(f"{line.name:<56} about {line.seconds:.0f} s" for line in lines))
        return 0
    refused = refusal(options.device)
    if refused is not None:
        print(f"gpu.py: {refused} (--device cpu checks the script)", file=sys.stderr)
        return 2
    known = about(options.device)
    print(", ".join(f"{name} {value}" for name, value in known.items()))
    for remark in remarks(options.device):
        print(remark)
    print(f"{len(lines)} lines, about {sum(line.seconds for line in lines):.0f} s on a GPU", flush=True)
    journal = Journal(options.out, known)
    with torch.inference_mode():
        if options.tune_seconds:
            os.environ[TUNE] = "1"
            clock = threading.Timer(options.tune_seconds, os.environ.pop, (TUNE, None))
            clock.start()
        try:
            run(lines, options, journal)
        finally:
            if options.tune_seconds:
                clock.cancel()
                os.environ.pop(TUNE, None)
    return 1 if journal.failures else 0


if __name__ == "__main__":
    sys.exit(main())

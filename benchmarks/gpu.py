"""Sweeps and ops on a GPU, one command: python benchmarks/gpu.py [--only TEXT] [--seconds 600] [--tune-seconds 60].

What says the most comes first: sweeps of ResNet-50 and VGG-16 against the dense pass, the same as captured graphs,
other networks, projections, the gallery's sweep, large images, the ops on the headline shapes of ``tools/gpu_code``,
then the CUDA kernels, other precisions, ``torch.compile`` of a dense pass, compute-sanitizer. Each result is checked
before it is timed; a line is printed as soon as it is known, and kept in ``gpu-results.json`` and ``.csv`` (``--out``).
What is wrong or does not fit is said, and the others go on; the exit status is 1 then. ``--check`` takes no times: with
``--device cpu --shapes small`` and ``TRITON_INTERPRET=1`` it tries the script and the kernels' numbers where there is
no GPU.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent / "tools"))  # what reads compiled kernels

import gpu_gallery
import gpu_ops
import gpu_projections
import gpu_sanitizer
import gpu_sweeps
import torch
from gpu_clock import synchronize
from gpu_code import cases
from gpu_code.window_cases import WINDOWS, WINDOWS_SMALL
from gpu_journal import Journal
from gpu_machine import about, refusal, remarks

OP_SECONDS = 6  # a line of an op, torch.compile's included: an estimate, nobody has measured it
TUNE = "ZFKERNELS_TUNE"


@dataclass(frozen=True)
class Line:
    """Something to run: what it is called, the seconds that it should take, and how."""

    name: str
    seconds: float
    run: Callable[[Journal], None]


Found = Iterator[Line]


class Lines:
    """The lines of each part, for the options given."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.device, self.rounds = options, options.device, options.rounds
        self.subjects: dict[gpu_sweeps.SweepCase, gpu_sweeps.Subject] = {}

    def subject(self, case: gpu_sweeps.SweepCase) -> gpu_sweeps.Subject:
        """Its network and image lie on the CPU between lines."""
        if case not in self.subjects:
            self.subjects[case] = gpu_sweeps.Subject(case, self.device)
        return self.subjects[case]

    def sweeps(self, of: Sequence[gpu_sweeps.SweepCase], backend: str, *precisions: str, graph: bool = False) -> Found:
        for case, precision in itertools.product(of, precisions):

            def run(journal: Journal, case: gpu_sweeps.SweepCase = case, precision: str = precision) -> None:
                gpu_sweeps.run_ours(self.subject(case), backend, precision, self.rounds, journal, graph=graph)

            name = f"{case.name}/{backend}/{precision}{'/graph' if graph else ''}"
            yield Line(name, case.seconds(backend, graph), run)

    def dense(self, of: Sequence[gpu_sweeps.SweepCase], how: str, precision: str) -> Found:
        for case in of:

            def run(journal: Journal, case: gpu_sweeps.SweepCase = case) -> None:
                gpu_sweeps.run_dense_again(self.subject(case), how, precision, self.rounds, journal)

            seconds = gpu_sweeps.COMPILE_SECONDS if how == "compile" else gpu_sweeps.GRAPH_SECONDS
            yield Line(f"{case.name}/dense/{precision}/{how}", seconds, run)

    def projections(self, of: Sequence[gpu_projections.ProjectionCase], *precisions: str) -> Found:
        for case, precision in itertools.product(of, precisions):

            def run(journal: Journal, case: gpu_projections.ProjectionCase = case, precision: str = precision) -> None:
                gpu_projections.run(case, "triton", precision, self.device, self.rounds, journal)

            yield Line(f"{case.name}/triton/{precision}", case.seconds(), run)

    def gallery(self, name: str, size: int, batch: int, precision: str) -> Found:
        def run(journal: Journal) -> None:
            gpu_gallery.run(name, size, batch, precision, self.device, self.rounds, journal)

        yield Line(f"gallery/{name}-{size}/{precision}", gpu_gallery.SECONDS, run)

    def ops(self, shapes: Sequence[cases.Case]) -> Found:
        dtype = getattr(torch, self.options.dtype)
        for case in shapes:

            def run(journal: Journal, case: cases.Case = case) -> None:
                gpu_ops.run(case, dtype, self.device, self.rounds, journal)

            yield Line(f"{case.op}/{case.name}", OP_SECONDS, run)

    def sanitizer(self) -> Found:
        for tool in gpu_sanitizer.TOOLS:
            yield Line(
                f"sanitizer/{tool}", gpu_sanitizer.SECONDS,
                lambda journal, tool=tool: gpu_sanitizer.run(tool, self.device, journal),
            )  # fmt: skip


def plan(options: argparse.Namespace) -> list[Line]:
    """All lines that were asked for, the most valuable first."""
    make, first = Lines(options), gpu_sweeps.FIRST
    if options.shapes == "small":
        small = gpu_sweeps.SMALL
        parts = (
            make.sweeps(small, "triton", "float32", "tf32"),  # what a CPU sweeps
            make.sweeps(small, "triton", "float32", graph=True), make.dense(small, "graph", "float32"),
            make.projections(gpu_projections.SMALL, "float32"), make.gallery("toy", 16, 4, "float32"),
            make.ops((*cases.SMALL, *WINDOWS_SMALL)), make.sweeps(small, "cuda", "float32"),
            make.dense(small, "compile", "float32"), make.sanitizer(),
        )  # fmt: skip
    else:
        parts = (
            make.sweeps(first, "triton", "float16", "float32"), make.sweeps(first, "triton", "float16", graph=True),
            make.dense(first, "graph", "float16"), make.sweeps(gpu_sweeps.OTHERS[:3], "triton", "float16"),
            make.sweeps(gpu_sweeps.OTHERS[:3], "triton", "float16", graph=True),
            make.projections(gpu_projections.CASES, "float16"), make.gallery("resnet50", 224, 256, "tf32"),
            make.sweeps(gpu_sweeps.OTHERS[3:], "triton", "float16"), make.ops((*cases.CASES, *WINDOWS)),
            make.sweeps(first, "cuda", "float16", "float32"), make.sweeps(first, "triton", "tf32", "bfloat16"),
            make.dense(first[:1], "compile", "float16"), make.sanitizer(),
        )  # fmt: skip
    found = itertools.chain.from_iterable(parts)
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

"""``benchmarks/gpu.py`` on machines that are not as it wishes: a sentence each, and the rest goes on."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

FOLDER = Path(__file__).parents[1] / "benchmarks"
WINDOW_OPS = ("conv2d", "max_pool2d", "avg_pool2d", "gather", "reduce", "unpool_relu_conv_transpose2d")
DRY = ["--device", "cpu", "--shapes", "small", "--check", "--only", "w4-s4/triton"]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    monkeypatch.syspath_prepend(FOLDER)
    monkeypatch.chdir(tmp_path)
    return importlib.import_module("gpu")


@pytest.fixture
def machine(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module about the machine, with an H200 in it."""
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "init", lambda: None)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H200")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_80", "sm_90", "compute_120"])
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (130 * 2**30, 139 * 2**30))
    return importlib.import_module("gpu_machine")


def test_without_a_gpu_it_says_so(script: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert script.main([]) == 2
    assert "expected a " in capsys.readouterr().err


def test_an_ordinary_machine_needs_no_remark(machine: ModuleType) -> None:
    assert machine.refusal("cuda") is None
    assert machine.remarks("cuda") == []
    assert machine.about("cuda")["gpu"] == "NVIDIA H200"


def test_a_driver_older_than_the_toolkit_is_refused_in_its_own_words(
    machine: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def init() -> None:
        raise RuntimeError("The NVIDIA driver on your system is too old (found version 12040).\nPlease update")

    monkeypatch.setattr(torch.cuda, "init", init)
    reason = "The NVIDIA driver on your system is too old (found version 12040)."
    assert machine.refusal("cuda") == f"expected a GPU that torch can use, got none: {reason}"


@pytest.mark.parametrize(
    ("capability", "code", "refused", "remark"),
    [
        ((7, 0), ["sm_80", "sm_90"], True, False),
        ((8, 9), ["sm_80", "sm_90"], False, True),  # runs what was compiled for 8.0
        ((12, 1), ["sm_90", "compute_90"], False, True),  # the driver compiles
        ((12, 0), ["sm_100"], True, False),
        ((9, 0), ["sm_90a"], False, False),
    ],
)  # fmt: skip
def test_another_generation_is_said(
    machine: ModuleType, monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], code: list[str], refused: bool,
    remark: bool,
) -> None:  # fmt: skip
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: code)
    assert (machine.refusal("cuda") is not None) is refused
    assert any("which the tiles were chosen for" in said for said in machine.remarks("cuda")) is remark or refused


def test_little_memory_and_a_missing_triton_are_said(machine: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (2 * 2**30, 8 * 2**30))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "triton" else find(name))
    missing, memory = machine.remarks("cuda")
    assert "Triton is not installed" in missing
    assert "2.0 of 8.0 GiB are free, 8 were expected" in memory


def test_without_triton_the_other_lines_run(tmp_path: Path) -> None:
    options = ["--device", "cpu", "--shapes", "small", "--check", "--only", "w4-s4/triton", "--only", "window_reduce"]
    code = f"import sys; sys.modules['triton'] = None; import gpu; sys.exit(gpu.main({options}))"
    paths = os.pathsep.join([str(FOLDER), str(FOLDER.parent)])
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": paths},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Triton is not installed: its lines are left out" in done.stdout
    lines = [line.split(maxsplit=2) for line in done.stdout.splitlines()]
    missing = {
        (name, variant) for name, variant, said in (line for line in lines if len(line) == 3) if "triton is not" in said
    }
    assert missing >= {("sweep/toy-16-w4-s4", "triton/float32"), ("window_reduce/windows", "triton")}
    assert ["window_reduce/windows", "reference", "right"] in lines


def test_what_fails_is_said_and_the_rest_goes_on(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    raised = [torch.OutOfMemoryError("CUDA out of memory. Tried to\nallocate"), KeyError("what a compiler says")]
    sweeps = importlib.import_module("gpu_sweeps")

    def run_ours(*args: Any, **options: Any) -> None:
        if raised:
            raise raised.pop(0)

    monkeypatch.setattr(sweeps, "run_ours", run_ours)
    assert script.main(DRY) == 1
    first, second = capsys.readouterr().out.splitlines()[-2:]
    assert "too little memory: CUDA out of memory. Tried to" in first
    assert "FAILS: KeyError: 'what a compiler says'" in second


def test_a_gpu_that_answers_no_more_ends_the_run_and_names_the_rest(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def synchronize(device: str) -> None:
        raise RuntimeError("an illegal memory access")

    monkeypatch.setattr(importlib.import_module("gpu_sweeps"), "run_ours", lambda *args, **options: None)
    monkeypatch.setattr(script, "synchronize", synchronize)
    assert script.main(DRY) == 1
    said = capsys.readouterr().out.splitlines()[-1]
    rest = "--only sweep/toy-16-w4-s4/triton/tf32 --only sweep/toy-16-w4-s4/triton/float32/graph"
    assert said.endswith(f"(an illegal memory access); the rest: {rest}")


@pytest.mark.parametrize("profiler", [(0.25, 7), None, RuntimeError("no counters here\nat all")])
def test_work_of_the_gpu_is_said_where_the_profiler_knows_it(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, profiler: Any
) -> None:
    sweeps, journals = importlib.import_module("gpu_sweeps"), importlib.import_module("gpu_journal")

    def busy(function: Any, device: str) -> Any:
        if isinstance(profiler, Exception):
            raise profiler
        return profiler

    monkeypatch.setattr(sweeps, "busy", busy)
    monkeypatch.setattr(sweeps, "peak_bytes", lambda *args: 2**30)
    monkeypatch.setattr(sweeps, "BATCHES", (4,))
    journal = journals.Journal(None, {})
    with torch.inference_mode():
        sweeps.run_ours(sweeps.Subject(sweeps.SMALL[0], "cpu"), "reference", "float32", 1, journal)
    row = journal.rows[-1]
    assert row["verdict"] == "right"
    assert "peak 1.00 GiB" in row["text"]
    assert (row.get("busy_s"), row.get("kernels")) == (profiler if isinstance(profiler, tuple) else (None, None))
    assert ("GPU at work 250.0 ms in 7 kernels" in row["text"]) == isinstance(profiler, tuple)
    assert ("profiler: no counters here" in row["text"]) == isinstance(profiler, Exception)


def test_a_batch_of_the_dense_pass_that_does_not_fit_is_said(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sweeps, journals = importlib.import_module("gpu_sweeps"), importlib.import_module("gpu_journal")
    occluded = sweeps.occluded

    def small(image: torch.Tensor, positions: torch.Tensor, window: int) -> torch.Tensor:
        if len(positions) > 64:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return occluded(image, positions, window)

    monkeypatch.setattr(sweeps, "occluded", small)
    journal = journals.Journal(None, {})
    with torch.inference_mode():
        sweeps.run_dense(sweeps.Subject(sweeps.SMALL[0], "cpu"), "float32", 1, journal)
    (row,) = journal.rows
    assert row["batch"] == 64
    assert row["text"].endswith("batch 128: CUDA out of memory.")


def test_lines_that_do_not_fit_the_time_are_left_out(script: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert script.main([*DRY, "--seconds", "5", "--out", "found"]) == 0
    assert "left out: about 14 s, 5 s are left" in capsys.readouterr().out
    assert len(json.loads(Path("found.json").read_text())["lines"]) == 3


def test_the_lines_come_in_the_order_of_what_they_say(script: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert script.main(["--list"]) == 0
    lines = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert lines[:6] == [
        "sweep/resnet50-224-w16-s4/triton/float16", "sweep/resnet50-224-w16-s4/triton/float32",
        "sweep/vgg16-224-w16-s4/triton/float16", "sweep/vgg16-224-w16-s4/triton/float32",
        "sweep/resnet50-224-w16-s4/triton/float16/graph", "sweep/vgg16-224-w16-s4/triton/float16/graph",
    ]  # fmt: skip
    parts = ["projections", "gallery", "window_reduce", "cuda/float16", "triton/tf32", "compile", "memcheck"]
    places = [min(n for n, line in enumerate(lines) if part in line) for part in parts]
    assert places == sorted(places)
    assert {line.split("/")[0] for line in lines} >= {f"window_{op}" for op in WINDOW_OPS} | {"occluded_conv2d"}
    assert len(set(lines)) == len(lines)


def test_only_that_names_nothing_is_refused(script: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert script.main(["--only", "nothing"]) == 2
    assert "expected --only to name some line, got ['nothing']" in capsys.readouterr().err

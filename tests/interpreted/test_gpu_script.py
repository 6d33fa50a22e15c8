"""``benchmarks/gpu.py`` from end to end without a GPU: its own inputs and checks, the Triton variants interpreted."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from gpu_code.cases import SMALL, Case
from gpu_code.window_cases import WINDOWS_SMALL

from zfkernels.ops import registered

FOLDER = Path(__file__).parents[2] / "benchmarks"
DRY = ["--device", "cpu", "--shapes", "small"]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    monkeypatch.syspath_prepend(FOLDER)
    monkeypatch.chdir(tmp_path)
    return importlib.import_module("gpu")


@pytest.mark.parametrize(("dtype", "cases"), [("float16", SMALL), ("float32", (*SMALL, *WINDOWS_SMALL))])
def test_every_small_shape_is_right(
    script: ModuleType, dtype: str, cases: tuple[Case, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    names = [part for case in cases for part in ("--only", f"{case.op}/{case.name}")]
    assert script.main([*DRY, "--check", "--dtype", dtype, *names]) == 0
    lines = capsys.readouterr().out.splitlines()
    for case in cases:
        said = [line.split()[1:3] for line in lines if line.startswith(f"{case.op}/{case.name} ")]
        assert ["triton", "right"] in said
        assert ["reference", "right"] in said
        assert sum(words[1:] == ["right"] for words in said) + sum(words[0] == "cuda" for words in said) >= 2


def test_times_are_taken_where_they_are_asked_for(script: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert script.main([*DRY, "--rounds", "1", "--only", "max_pool2d", "--dtype", "float32"]) == 0
    (line,) = [
        text for text in capsys.readouterr().out.splitlines() if " reference " in text and "with_switches" in text
    ]
    assert "GB/s" in line
    assert "TFLOP/s" in line
    assert "unfused x" in line


def test_a_wrong_variant_is_said(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    variant = registered()["max_pool2d_with_switches"].variants["triton"]
    right = variant.load()

    def wrong(*args: Any) -> Any:
        values, switches = right(*args)
        return values + 1, switches

    monkeypatch.setitem(
        registered()["max_pool2d_with_switches"].variants, "triton",
        type(variant)("triton", lambda: wrong, variant.missing, variant.refuses),
    )  # fmt: skip
    assert script.main([*DRY, "--check", "--only", "max_pool2d"]) == 1
    assert "FAILS" in capsys.readouterr().out


SANITIZERS = {
    "clean": ("echo 'op/case triton right'; echo '========= ERROR SUMMARY: 0 errors'", "right"),
    "wrong": ("echo 'op/case triton right'; echo '========= ERROR SUMMARY: 3 errors'", "FAILS"),
    "idle": ("echo '========= ERROR SUMMARY: 0 errors'", "FAILS"),  # it has to have seen something
    "broken": ("echo 'no such option'", "the tool did not come to its end: no such option"),
    "missing": (None, "compute-sanitizer is not there: left out"),
}


@pytest.mark.parametrize("how", SANITIZERS)
def test_the_sanitizers_summary_is_the_line(
    script: ModuleType, how: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sanitizer, journals = importlib.import_module("gpu_sanitizer"), importlib.import_module("gpu_journal")
    text, verdict = SANITIZERS[how]
    tool = tmp_path / "tool"
    tool.write_text(f"#!/bin/sh\n{text}\n")
    tool.chmod(0o755)
    monkeypatch.setattr(sanitizer, "command", lambda: None if text is None else str(tool))
    journal = journals.Journal(None, {})
    sanitizer.run("memcheck", "cpu", journal)
    assert [row["verdict"] for row in journal.rows] == [verdict]


def test_methods_end_to_end(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Sweeps, graphs, projections, the gallery: every branch that needs no GPU, with times."""
    monkeypatch.setattr(importlib.import_module("gpu_sweeps"), "BATCHES", (4,))
    names = [part for name in ("sweep/", "projections", "gallery", "sanitizer") for part in ("--only", name)]
    assert script.main([*DRY, "--rounds", "1", *names]) == 0
    said = {tuple(line.split()[:2]): line for line in capsys.readouterr().out.splitlines() if "/" in line}
    sweep = "sweep/toy-16-w4-s4"
    for variant in ("triton/float32", "triton/tf32", "triton/float32/graph"):
        assert " right " in said[sweep, variant], variant
        assert "of dense/" in said[sweep, variant]
    assert "no graphs on a CPU" in said[sweep, "triton/float32/graph"]
    for how in ("graph", "compile"):
        assert "of dense" in said[sweep, f"dense/float32/{how}"]
    assert "of whole frames" in said["projections/toy-12-1-images", "triton/float32"]
    assert "of the bare forward pass" in said["gallery/toy-16", "float32"]
    assert (sweep, "cuda/float32") in said

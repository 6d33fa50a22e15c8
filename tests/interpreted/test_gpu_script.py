"""``benchmarks/gpu.py`` from end to end without a GPU: its own inputs and checks, the Triton variants interpreted."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from gpu_code.cases import SMALL

from zfkernels.ops import registered

FOLDER = Path(__file__).parents[2] / "benchmarks"
DRY = ["--device", "cpu", "--shapes", "small"]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    monkeypatch.syspath_prepend(FOLDER)
    monkeypatch.chdir(tmp_path)
    return importlib.import_module("gpu")


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_every_small_shape_is_right(script: ModuleType, dtype: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert script.main([*DRY, "--check", "--dtype", dtype, "--only", "2d"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for case in SMALL:
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

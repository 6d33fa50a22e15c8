"""``benchmarks/gpu.py`` from end to end without a GPU: its own inputs and checks, the Triton variants interpreted."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from zfkernels.inspect.cases import SMALL
from zfkernels.ops import registered

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gpu", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_every_small_shape_is_right(script: ModuleType, dtype: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert script.main(["--device", "cpu", "--shapes", "small", "--check", "--dtype", dtype]) == 0
    lines = capsys.readouterr().out.splitlines()
    for case in SMALL:
        said = [line.split()[1:3] for line in lines if line.startswith(f"{case.op}/{case.name} ")]
        assert ["triton", "right"] in said
        assert ["reference", "right"] in said
        assert sum(words[1:] == ["right"] for words in said) + sum(words[0] == "cuda" for words in said) >= 2


def test_times_are_taken_where_they_are_asked_for(script: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--device", "cpu", "--shapes", "small", "--rounds", "1", "--only", "max_pool2d", "--dtype", "float32"]
    assert script.main(arguments) == 0
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
    assert script.main(["--device", "cpu", "--shapes", "small", "--check", "--only", "max_pool2d"]) == 1
    assert "FAILS" in capsys.readouterr().out


def test_without_a_gpu_it_says_so(script: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert script.main([]) == 2
    assert "expected a GPU" in capsys.readouterr().err

"""Whole sweeps from static figures: what is counted, and what a line of the report may say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from gpu_code import record, sweeps
from gpu_code.__main__ import gpu_code
from gpu_code.estimate import Work
from gpu_code.gpus import GPUS
from support.toys import toy

from zfkernels.network import record as recorded
from zfkernels.occlusion.arguments import grid
from zfkernels.occlusion.cost import RATES
from zfkernels.occlusion.engine import WindowSweep

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
RECORDS = record.load(BENCHMARKS / "gpu_budgets.csv")
CASE = sweeps.Case("residual", 40, 8, 4)


def line(dtype: str) -> sweeps.Sweep:
    return sweeps.sweep_of(CASE, toy("residual").to("meta"), dtype, RECORDS, "sm_90")


def test_a_line_counts_what_the_sweep_calls() -> None:
    found = line("float16")
    size, window = (40, 40), (8, 8)
    corners = grid(size, window, (4, 4)).reshape(-1, 2)
    places = torch.cat([corners, torch.tensor(window).expand_as(corners)], 1)
    plan = WindowSweep(recorded(toy("residual"), (3, *size)), places, rates=RATES["cuda"]).plan(
        torch.device("cpu"), torch.float16
    )
    assert found.positions == len(places)
    assert found.multiply_adds == plan.planned
    assert found.saving == plan.dense / plan.planned
    assert 5 < found.launches < found.operations
    assert found.bytes < line("float32").bytes < 2.2 * found.bytes
    assert found.estimate_us > sweeps.LAUNCH * found.launches
    assert 0 < found.dense_us == pytest.approx(line("float32").dense_us / 2, rel=0.2)


def test_time_of_a_call() -> None:
    """Twice the products of a recorded shape take twice its estimate; a library's call takes the bound."""
    known = RECORDS["triton/window_conv2d/vgg16.3/float16/sm_90"]
    call = sweeps.Call("window_conv2d", Work(2 * known.multiply_adds, 2 * known.bytes_floor))
    assert sweeps._time(call, "float16", RECORDS, "sm_90") == pytest.approx(2 * known.estimate_us)
    gpu = GPUS["sm_90"]
    product = sweeps.Call("addmm", Work(10**12, 10))
    assert sweeps._time(product, "float16", RECORDS, "sm_90") == pytest.approx(1e18 / gpu.peak("float16"))
    pooling = RECORDS["triton/window_max_pool2d/zfnet1/float16/sm_90"]
    moved = sweeps.Call("window_max_pool2d", Work(0, pooling.bytes_floor))
    spent = sweeps._time(moved, "float16", RECORDS, "sm_90")
    assert pooling.bound_us < spent <= RECORDS["cuda/window_max_pool2d/zfnet1/float16/sm_90"].estimate_us
    with pytest.raises(
        ValueError, match=r"^inspect: expected records of window_conv2d in float16 for sm_80, got none$"
    ):
        sweeps._time(call, "float16", {known.key: known}, "sm_80")


def test_the_report_on_file() -> None:
    """Every network that saves more than 1.3x gains by the estimate, launches and all."""
    lines = (BENCHMARKS / "gpu_sweeps_static_report.md").read_text().splitlines()
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    head, _, *rows = table
    assert [(row[0], row[1], row[3]) for row in rows] == [
        (case.network, str(case.size), dtype) for case in sweeps.SWEEPS for dtype in ("float16", "tf32")
    ]
    for row in rows:
        found = dict(zip(head, row, strict=True))
        ours, dense = float(found["estimate, sweep, ms"]), float(found["bound, dense, ms"])
        assert float(found["fewer GMAC"]) < 1.3 or ours < dense, row


def test_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sweeps, "SWEEPS", (sweeps.Case("squeezenet1_1", 64, 16, 16),))
    out = tmp_path / "sweeps.md"
    arguments = ["--sweeps", str(BENCHMARKS / "gpu_budgets.csv"), "--out", str(out), "--json"]
    result = CliRunner().invoke(gpu_code, arguments)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)["sweeps"]
    assert [(line["dtype"], line["positions"]) for line in found] == [("float16", 16), ("float32", 16)]
    assert out.read_text().count("| squeezenet1_1 | 64 | 16, 16 |") == 2

"""Triton kernels compiled ahead of time: no spills, tensor instructions, wide loads, nothing worse than recorded.

`python tools/gpu_code` compiles all headline shapes for all GPUs; here a few that are quick to compile.
"""

from __future__ import annotations

import dataclasses
import os
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from gpu_code import record as records
from gpu_code.__main__ import gpu_code
from gpu_code.cases import CASES, SMALL, launches_of
from gpu_code.gpus import GPUS, MULTIPROCESSORS, TURING, resident_warps
from gpu_code.report import markdown
from gpu_code.window_cases import WINDOWS, WINDOWS_SMALL
from torch._subclasses.fake_tensor import FakeTensorMode

import zfkernels  # noqa: F401
from zfkernels import ops
from zfkernels.ops import _triton_launch

pytest.importorskip("triton")
if os.environ.get("TRITON_INTERPRET") == "1":
    pytest.skip("this process interprets Triton kernels", allow_module_level=True)

import triton
from gpu_code.triton_family import compile_for, inspect_case

BUDGETS = Path(__file__).parent.parent / "benchmarks" / "gpu_budgets.csv"
HEADER = ",".join([*records.COLUMNS, records.MADE_WITH])
QUICK = [
    ("max_pool2d_with_switches/zfnet1", "sm_90"), ("window_max_pool2d/zfnet1", "sm_90"),
    ("window_conv2d/vgg16.3", "sm_90"), ("window_conv2d/vgg16.3", "sm_120"), ("window_conv2d/zfnet2", TURING),
    ("occluded_conv2d/vgg16.1", "sm_80"), ("unpool_relu_conv_transpose2d/vgg16.3", "sm_90"),
    ("window_gather/resnet18", "sm_100"), ("window_reduce/resnet18", "sm_90"),
]  # fmt: skip
DOTS = {
    "unpool_relu_conv_transpose2d", "window_unpool_relu_conv_transpose2d", "occluded_conv2d", "window_conv2d",
}  # fmt: skip
with FakeTensorMode():
    FILTERS = torch.empty(256, 96, 9, 9, device="cuda", dtype=torch.float16)
BY_NAME = {f"{case.op}/{case.name}": case for case in (*CASES, *WINDOWS)}


@pytest.mark.parametrize(("name", "arch"), QUICK)
def test_kernel_is_no_worse_than_recorded(name: str, arch: str) -> None:
    found = inspect_case(BY_NAME[name], torch.float16, arch)
    try:
        file = records.of_triton(BUDGETS, triton.__version__)
    except ValueError as reason:
        pytest.skip(str(reason))
    recorded = records.load(file)
    if file != BUDGETS and found.key not in recorded:
        pytest.skip(f"{found.key} is not in {file}")
    assert records.regressions(found, recorded[found.key]) == []
    assert found.spills == 0
    assert found.occupancy > 0
    if found.op in DOTS and arch != TURING:
        assert found.hot_loop["tensor"] > 0
    if arch != TURING:  # whose operands wait in registers: small tiles, narrow loads
        widest = "64" if found.op == "occluded_conv2d" else "128"  # a pixel of four channels
        assert found.wide_loads.get(widest, 0) > 0


@pytest.mark.parametrize("case", [*SMALL, *WINDOWS_SMALL], ids=lambda case: f"{case.op}-{case.name}")
def test_small_shapes_compile(case: Any) -> None:
    """Under every version of Triton that torch brings: these meet each branch of the kernels."""
    (launch,) = launches_of(case, torch.float16)
    assert compile_for(launch, "sm_90").asm["cubin"]


def test_budgets_of_another_triton_lie_beside(tmp_path: Path) -> None:
    path, some = tmp_path / "budgets.csv", list(records.load(BUDGETS).values())[:2]
    records.save(path, some, {"triton": "3.8.0", "torch": "2.14.1"})
    records.save(beside := tmp_path / "budgets-triton-3.6.csv", some, {"triton": "3.6.0"})
    assert list(records.load(path).values()) == some
    assert records.versions(path) == {"triton": "3.8.0", "torch": "2.14.1"}
    assert records.of_triton(path, "3.8.1") == path
    assert records.of_triton(path, "3.6.1") == beside
    with pytest.raises(ValueError, match=r"gpu_code: expected budgets of Triton 3\.7 in .*-triton-3\.7\.csv, which"):
        records.of_triton(path, "3.7.0")


@pytest.mark.parametrize("name", ["window_conv2d/zfnet2", "occluded_conv2d/vgg16.1"])
def test_kernel_without_tf32_takes_tiles_that_do_not_spill(name: str) -> None:
    before = torch.backends.cudnn.conv.fp32_precision
    torch.backends.cudnn.conv.fp32_precision = "ieee"
    try:
        found = inspect_case(BY_NAME[name], torch.float32, "sm_90")
    finally:
        torch.backends.cudnn.conv.fp32_precision = before
    assert found.spills == 0
    assert "tensor" not in found.mix


def test_kernel_compiles_for_amd() -> None:
    found = inspect_case(BY_NAME["window_conv2d/vgg16.3"], torch.float16, "gfx942")
    assert found.spills == 0
    assert found.mix["tensor"] > 0


def test_a_dtype_that_a_gpu_does_not_have_is_refused() -> None:
    result = CliRunner().invoke(gpu_code, ["--arch", TURING, "--dtype", "bfloat16"])
    assert result.exit_code == 2
    assert "expected --dtype of ['float16'] for sm_75, got ['bfloat16']" in result.output


def test_recorded_kernels_keep_the_rules() -> None:
    recorded = records.load(BUDGETS)
    assert recorded
    for key, record in recorded.items():
        assert key == record.key
        assert record.spills == 0, key
        products = record.op in DOTS and record.shape != "depthwise"
        if record.family == "triton" and record.arch in GPUS and record.arch != TURING and products:
            assert (record.hot_loop or record.mix)["tensor"] > 0, key
    stage = recorded["triton/unpool_relu_conv_transpose2d/zfnet2/float16/sm_90"]
    assert stage.share("integer") <= 0.40  # work on addresses, of a kernel that compares a switch for every number


def test_a_regression_is_found() -> None:
    budget = next(r for r in records.load(BUDGETS).values() if r.hot_loop.get("tensor"))
    loop = budget.hot_loop
    worse = {
        "spills": {"spills": 8}, "warps": {"occupancy": budget.occupancy - 1}, "128-bit": {"wide_loads": {"32": 9}},
        "tensor": {"hot_loop": {**loop, "tensor": 0}},
        "integer": {"hot_loop": {**loop, "integer": loop["instructions"]}},
        "compare": {"hot_loop": {**loop, "compare": loop["instructions"]}},
    }  # fmt: skip
    assert records.regressions(budget, budget) == []
    for word, change in worse.items():
        (sentence,) = records.regressions(dataclasses.replace(budget, **change), budget)
        assert word in sentence


@pytest.mark.parametrize("case", [*CASES, *WINDOWS], ids=lambda case: f"{case.op}-{case.name}")
def test_one_launch_whatever_the_number_of_positions(case: Any) -> None:
    """The grid of a recorded launch fits a GPU, and there is one."""
    (launch,) = launches_of(case, torch.float16)
    assert 0 < launch.grid[0] < 2**31
    assert all(0 < n < 2**16 for n in launch.grid[1:])


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.op}-{case.name}")
def test_fake_cuda_tensors_and_export(case: Any) -> None:
    """Shapes of results on a GPU that is not there, and a graph of one op."""
    op = getattr(torch.ops.zfkernels, case.op).default

    class Call(torch.nn.Module):
        def forward(self, *tensors: torch.Tensor) -> Any:
            rest = iter(tensors)
            return op(*(next(rest) if isinstance(a, torch.Tensor) else a for a in flat))

    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        flat = case.flat(torch.float16, "cuda")
        results = op(*flat)
        tensors = tuple(a for a in flat if isinstance(a, torch.Tensor))
        graph = torch.export.export(Call(), tensors, strict=False).graph
    for result in results if isinstance(results, tuple) else (results,):
        assert result.device.type == "cuda"
        assert result.is_contiguous(memory_format=torch.channels_last)
    called = [node.target for node in graph.nodes if node.op == "call_function"]
    assert [target for target in called if "zfkernels" in str(target)] == [op]


def test_resident_warps() -> None:
    gpu = MULTIPROCESSORS["sm_90"]
    assert resident_warps(gpu, 32, 4, 0) == 64
    assert resident_warps(gpu, 128, 4, 0) == 16
    assert resident_warps(gpu, 255, 8, 0) == 8
    assert resident_warps(gpu, 64, 8, 100_000) == 16
    assert resident_warps(gpu, 64, 8, gpu.shared_of_block + 1) == 0


def test_nothing_runs_while_launches_are_recorded() -> None:
    with _triton_launch.record() as launches:
        _triton_launch.launch("no kernel", (0, 1), torch.empty(0))
        _triton_launch.launch("a kernel", (2, 1), torch.empty(1), 3, num_warps=4)
    assert launches == [_triton_launch.Launch("a kernel", (2, 1), (3,), {"num_warps": 4})]


@pytest.mark.parametrize("content", ["", "{", "kernel,op\na,b\n", f"{HEADER}\na,b\n", f"{HEADER}\n{'x,' * 19}x\n"])
def test_a_file_that_holds_no_budgets_is_refused_and_kept(tmp_path: Path, content: str) -> None:
    path = tmp_path / "budgets.csv"
    path.write_text(content)
    for use in (lambda: records.load(path), lambda: records.save(path, [], {})):
        with pytest.raises(ValueError, match=r"gpu_code: expected CSV of records in .*, got "):
            use()
    assert path.read_text() == content


def test_report_lists_every_record() -> None:
    recorded = list(records.load(BUDGETS).values())
    text = markdown(recorded, {"triton": "x"})
    tables, _, counted = text.partition("## Sectors")
    assert tables.count("| float16 |") == len([r for r in recorded if r.dtype == "float16"])
    assert "## Triton or CUDA" in counted
    assert "Nothing here is a time that anybody measured" in text


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({4: (5, 4)}, r"poolings whose strides have a product of at most 16, got \(5, 4\)"),
        ({2: FILTERS, 8: (1, 1)}, "at most 64 taps for each phase of the stride, got 81"),
        ({4: (4, 4)}, None),
        ({2: FILTERS, 8: (2, 2)}, None),
    ],
)  # fmt: skip
def test_what_a_stage_would_unroll_without_end_is_refused(change: dict[int, Any], reason: str | None) -> None:
    variant = ops.registered()["unpool_relu_conv_transpose2d"].variants["triton"]
    with FakeTensorMode(allow_non_fake_inputs=True):
        flat = list(BY_NAME["unpool_relu_conv_transpose2d/zfnet2"].flat(torch.float16, "cuda"))
    for position, value in change.items():
        flat[position] = value
    refused = variant.refuses(*flat)
    assert refused is None if reason is None else re.search(reason, refused or "")

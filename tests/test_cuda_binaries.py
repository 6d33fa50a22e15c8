"""Budgets of the compiled CUDA kernels: no spills, tensor cores in use, a quarter of a multiprocessor's warps."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from gpu_code import cuda_binaries
from gpu_code import record as records
from gpu_code.__main__ import gpu_code
from gpu_code.cases import CASES
from gpu_code.compare import markdown, verdicts
from gpu_code.cuda_binaries import KERNELS, TENSOR, Kernel, compiled, hot_loop, name_of
from gpu_code.cuda_family import inspect_case
from gpu_code.cuda_launches import launch_of
from gpu_code.gpus import MULTIPROCESSORS
from gpu_code.record import Record
from gpu_code.report import markdown as report
from gpu_code.sass import Code, count, instructions
from gpu_code.window_cases import WINDOWS

from zfkernels.cli.app import app
from zfkernels.ops import registered

pytest.importorskip("triton")

from gpu_code.triton_family import cuobjdump

BUDGETS = Path(__file__).parent.parent / "benchmarks" / "gpu_budgets.csv"
RECORDED = [record for record in records.load(BUDGETS).values() if record.family == "cuda"]


@pytest.fixture(scope="module", params=["sm_80", "sm_90"])
def arch(request: pytest.FixtureRequest, require: Callable[[str, object, str], None]) -> str:
    """Spills of all other architectures stop the strict build."""
    problem = cuda_binaries.why_not()
    require("nvcc", problem is None, str(problem))
    return request.param


@pytest.fixture(scope="module")
def kernels(arch: str) -> dict[str, Kernel]:
    return compiled(arch, cuobjdump())


def test_every_kernel_is_there(kernels: dict[str, Kernel]) -> None:
    assert {kernel.name for kernel in kernels.values()} == set(KERNELS)
    for kernel in KERNELS:
        assert {k.dtype for k in kernels.values() if k.name == kernel} == {"float32", "float16", "bfloat16"}


def test_nothing_spills(kernels: dict[str, Kernel]) -> None:
    assert {name: kernel.code.spills for name, kernel in kernels.items() if kernel.code.spills} == {}


def test_products_use_tensor_cores(kernels: dict[str, Kernel]) -> None:
    loops = {name: hot_loop(kernel.code) for name, kernel in kernels.items() if kernel.name in TENSOR}
    assert len(loops) >= 6
    assert [name for name, loop in loops.items() if "tensor" not in count(loop)] == []


def test_kernels_are_no_worse_than_recorded(arch: str) -> None:
    recorded = records.load(BUDGETS)
    for case in CASES:
        for dtype in (torch.float16, torch.float32):
            found = inspect_case(case, dtype, arch)
            assert records.regressions(found, recorded[found.key]) == []
            assert found.traffic == recorded[found.key].traffic  # python tools/gpu_code --family cuda --record


def test_bfloat16_is_launched_like_float16(arch: str) -> None:
    found = [inspect_case(CASES[0], dtype, arch) for dtype in (torch.float16, torch.bfloat16)]
    assert found[0].kernel == found[1].kernel
    assert found[0].shared == found[1].shared


def test_every_headline_shape_is_recorded() -> None:
    keys = {(record.op, record.shape, record.dtype, record.arch) for record in RECORDED}
    for case in CASES:
        for arch in ("sm_80", "sm_90"):
            assert {(case.op, case.name, dtype, arch) for dtype in ("float16", "float32")} <= keys


@pytest.mark.parametrize("record", RECORDED, ids=lambda record: record.key)
def test_recorded_kernels_keep_the_budgets(record: Record) -> None:
    assert record.spills == 0
    assert record.estimate_us is not None
    assert max(record.traffic.values()) <= 1.25  # sectors and bank passes over the ideal
    if record.arch in ("sm_80", "sm_90"):
        assert record.occupancy >= MULTIPROCESSORS[record.arch].warps / 4
    if record.kernel.split("_kernel")[0] + "_kernel" in TENSOR:
        assert record.hot_loop["tensor"] > 0


def test_too_much_traffic_is_a_regression() -> None:
    worse = dataclasses.replace(RECORDED[0], traffic={"global out store": 1.3})
    assert "moves 1.30x the ideal" in records.regressions(worse, RECORDED[0])[0]


def test_the_router_follows_the_static_figures() -> None:
    """Where the verdict changes, the op's ``prefer`` has to."""
    found = verdicts(records.load(BUDGETS).values())
    orders = {op: entry.preference["cuda"] for op, entry in registered().items() if "cuda" in entry.variants}
    assert {op: found[op].order for op in orders} == orders


def test_verdicts() -> None:
    cuda = dataclasses.replace(RECORDED[0], estimate_us=10.0)

    def verdict(triton_us: float | None) -> str | None:
        triton = dataclasses.replace(cuda, family="triton", estimate_us=triton_us)
        assert "Triton or CUDA" in "\n".join(markdown([cuda, triton]))
        found = verdicts([cuda, triton])
        return found[cuda.op].prefer if found else "unknown"

    assert [verdict(us) for us in (16.0, 14.0, 7.0, 6.0, None)] == ["cuda", None, None, "triton", "unknown"]
    assert verdicts([cuda]) == {}
    assert markdown([cuda]) == []


def test_the_report_tells_of_both_families() -> None:
    text = report(records.load(BUDGETS).values(), {"nvcc": "x"})
    for heading in ("## cuda, sm_90", "## triton, sm_90", "## Sectors and bank passes", "## Triton or CUDA"):
        assert heading in text


def test_the_command_checks_cuda_kernels(arch: str, tmp_path: Path) -> None:
    arguments = ["--family", "cuda", "--arch", arch, "--only", "window_max_pool2d", "--json"]
    result = CliRunner().invoke(gpu_code, [*arguments, "--check", str(BUDGETS), "--out", str(tmp_path / "report.md")])
    assert result.exit_code == 0, result.output
    (found,) = json.loads(result.stdout)["records"]
    assert (found["family"], found["kernel"], found["spills"]) == ("cuda", "window_max_pool_kernel_8", 0)
    assert f"## cuda, {arch}" in (tmp_path / "report.md").read_text()


def test_info_tells_the_order_on_a_gpu() -> None:
    text = CliRunner().invoke(app, ["info"]).output
    assert "no one has measured it" in text
    for op, entry in registered().items():
        order = ", ".join(name for name in entry.preference["cuda"] if name in entry.variants)
        assert re.search(rf"^{op} +{order}$", text, re.MULTILINE)


def test_launches_of_headline_shapes_fit_a_device() -> None:
    for case in (*CASES, *WINDOWS):
        for dtype in (torch.float32, torch.float16, torch.bfloat16):
            launch = launch_of(case, dtype)
            assert name_of(launch.kernel) is not None
            assert KERNELS[name_of(launch.kernel)[0]] == case.op.replace("window_unpool", "unpool")  # type: ignore[index]
            assert 0 < launch.blocks < 2**31
            assert launch.shared < MULTIPROCESSORS["sm_86"].shared_of_block


def test_names() -> None:
    mangled = "_ZN9zfkernels4cuda15max_pool_kernelI6__halfLi8ELb1EEEvNS0_7MaxPoolIT_EEi"
    assert name_of(mangled) == ("max_pool_kernel", "float16", "8_1")
    mangled = "_ZN9zfkernels4cuda22window_conv_mma_kernelIfLb1EEEvNS0_10WindowConvIT_EE"
    assert name_of(mangled) == ("window_conv_mma_kernel", "float32", "1")
    assert name_of("_ZN3foo3barIfEEv") is None


def test_the_hot_loop_of_a_listing() -> None:
    lines = ["MOV R1, c[0x0] ", "FFMA R1, R2, R3, R4 ", "FFMA R1, R2, R3, R4 ", "@P0 BRA 0x10 ", "EXIT "]
    text = "\n".join(
        f"        /*{16 * i:04x}*/   {line};   /* 0x{0:016x} */\n      /* 0x{4 << 41:016x} */"
        for i, line in enumerate(lines)
    )
    assert len(instructions(text)) == 5
    loop = hot_loop(Code(instructions(text), 0, 0))
    assert [instruction.text.split()[0] for instruction in loop] == ["FFMA", "FFMA", "BRA"]
    assert hot_loop(Code(instructions(text)[:3], 0, 0)) == []

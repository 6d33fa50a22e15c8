"""Budgets of the compiled CUDA kernels: no spills, tensor cores in use, a quarter of a multiprocessor's warps."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zfkernels.inspect import cuda_binaries
from zfkernels.inspect.cuda_binaries import KERNELS, TENSOR, hot_loop, name_of, occupancy, records
from zfkernels.inspect.sass import Code, instructions

PACKAGE = Path(cuda_binaries.__file__).parent.parent


def cuobjdump() -> Path | None:
    """CUDA's, else Triton's."""
    found = shutil.which("cuobjdump")
    spec = importlib.util.find_spec("triton")
    if found is None and spec is not None and spec.origin:
        beside = Path(spec.origin).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
        found = str(beside) if beside.exists() else None
    return Path(found) if found else None


@pytest.fixture(scope="module")
def found(require: Callable[[str, object, str], None]) -> list[dict[str, Any]]:
    libraries, tool = sorted(PACKAGE.glob("_C_cuda.*so")), cuobjdump()
    require("nvcc", libraries, "the extension zfkernels._C_cuda is not built")
    if tool is None:
        pytest.skip("cuobjdump was not found, neither CUDA's nor Triton's")
    return list(records(libraries[0], tool, {"sm_80", "sm_90"}))  # spills of all others stop the strict build


def test_every_kernel_is_there(found: list[dict[str, Any]]) -> None:
    for arch in {record["arch"] for record in found}:
        kernels = {record["kernel"].rsplit("kernel", 1)[0] + "kernel" for record in found if record["arch"] == arch}
        assert kernels == set(KERNELS)


def test_nothing_spills(found: list[dict[str, Any]]) -> None:
    assert [record for record in found if record["spills"]] == []


def test_products_use_tensor_cores(found: list[dict[str, Any]]) -> None:
    products = [record for record in found if record["kernel"] in TENSOR]
    assert products
    assert [record for record in products if not record["hot_loop"].get("tensor")] == []


def test_a_quarter_of_the_warps_fit(found: list[dict[str, Any]]) -> None:
    low = {
        (record["kernel"], record["arch"], record["dtype"]): record["occupancy"]
        for record in found
        if record["arch"] in ("sm_80", "sm_90") and record["occupancy"] < 0.25
    }
    assert low == {}


def test_occupancy() -> None:
    assert occupancy("sm_80", 32, 128, 0) == 1.0
    assert occupancy("sm_80", 128, 128, 0) == 0.25
    assert occupancy("sm_80", 32, 128, 100 << 10) == 4 / 64  # one block
    assert occupancy("sm_90", 255, 1024, 0) == 0.0  # does not launch
    assert occupancy("sm_75", 64, 256, 0) == 1.0


def test_names() -> None:
    mangled = "_ZN9zfkernels4cuda15max_pool_kernelI6__halfLi8ELb1EEEvNS0_7MaxPoolIT_EEi"
    assert name_of(mangled) == ("max_pool_kernel", "float16", "8_1")
    mangled = "_ZN9zfkernels4cuda22window_conv_mma_kernelIfEEvNS0_10WindowConvIT_EE"
    assert name_of(mangled) == ("window_conv_mma_kernel", "float32", "")
    assert name_of("_ZN3foo3barIfEEv") is None


def test_the_hot_loop_of_a_listing() -> None:
    lines = ["MOV R1, c[0x0] ", "FFMA R1, R2, R3, R4 ", "FFMA R1, R2, R3, R4 ", "@P0 BRA 0x10 ", "EXIT "]
    text = "\n".join(
        f"        /*{16 * i:04x}*/   {line};   /* 0x{0:016x} */\n      /* 0x{4 << 41:016x} */"
        for i, line in enumerate(lines)
    )
    assert len(instructions(text)) == 5
    assert hot_loop(Code(instructions(text), 0, 0)) == {"instructions": 3, "stalls": 12, "float": 2, "branch": 1}

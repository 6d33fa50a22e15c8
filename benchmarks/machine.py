"""The machine that a benchmark runs on: versions, commit, and what it reaches on plain work."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from functools import cache
from pathlib import Path

import torch

import zfkernels


@cache
def gemm_gflops() -> float:
    """Best rate of a float32 matrix product of 2048 x 2048 matrices, in GFLOP/s, over ten tries."""
    a = torch.randn(2048, 2048)
    return 2 * 2048**3 / _best(lambda: a @ a) / 1e9


@cache
def copy_gbs() -> float:
    """Best rate of copying 256 MiB, in GB/s (read and written bytes both counted), over ten tries."""
    source = torch.randn(64 * 2**20)
    target = torch.empty_like(source)
    return 2 * source.nbytes / _best(lambda: target.copy_(source)) / 1e9


@cache
def description() -> dict[str, str | int | float]:
    """What belongs beside every number."""
    return {
        "device": _processor(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "zfkernels": zfkernels.__version__,
        "commit": _commit(),
        "load": round(os.getloadavg()[0], 1),
        "gemm_gflops": round(gemm_gflops(), 1),
        "copy_gbs": round(copy_gbs(), 1),
    }


def _best(function: object) -> float:
    times = []
    for _ in range(10):
        start = time.perf_counter()
        function()  # type: ignore[operator]
        times.append(time.perf_counter() - start)
    return min(times)


def _processor() -> str:
    name = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        told = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
        name = told.get("model name", name)
        if "cpu family" in told:  # a virtual machine's processor may tell no more of its name than its maker's
            name += f" (family {told['cpu family']}, model {told.get('model', '?')})"
    isa = torch.backends.cpu.get_cpu_capability()
    return f"{name}, {os.cpu_count()} cores, {isa}"


def _commit() -> str:
    result = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )
    return result.stdout.strip() or "unknown"

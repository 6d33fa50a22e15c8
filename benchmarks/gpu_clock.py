"""Times on a GPU: of the host, of the GPU, of both together; memory. Where there is no GPU the host's alone."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Times:
    """Of a call: seconds until the GPU was done, and until the call returned. Where both agree, the GPU waits."""

    wall: float
    host: float


def synchronize(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def timed(function: Callable[[], Any], device: str) -> Times:
    """One call."""
    synchronize(device)
    start = time.perf_counter()
    function()
    host = time.perf_counter() - start
    synchronize(device)
    return Times(time.perf_counter() - start, host)


def median(function: Callable[[], Any], device: str, rounds: int) -> Times:
    """The medians of some calls, each on its own."""
    found = [timed(function, device) for _ in range(rounds)]
    return Times(statistics.median(t.wall for t in found), statistics.median(t.host for t in found))


def seconds(function: Callable[[], Any], device: str, rounds: int) -> float:
    """The median over rounds, each of enough calls for the clock; for what takes microseconds."""
    function()
    if device != "cuda":
        return median(function, device, rounds).wall
    from triton.testing import do_bench

    return do_bench(function, rep=20 * rounds, return_mode="median") / 1e3


def busy(function: Callable[[], Any], device: str) -> tuple[float, int] | None:
    """Seconds that the GPU works during a call, and the kernels it runs; None where its profiler records nothing."""
    if device != "cuda":
        return None
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as recorded:
        timed(function, device)
    kernels = [event for event in recorded.events() if event.device_type == torch.autograd.DeviceType.CUDA]
    return (sum(event.time_range.elapsed_us() for event in kernels) / 1e6, len(kernels)) if kernels else None


def peak_bytes(function: Callable[[], Any], device: str) -> int | None:
    """The most memory that PyTorch holds during a call; None without a GPU."""
    if device != "cuda":
        function()
        return None
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    timed(function, device)
    return torch.cuda.max_memory_allocated()

"""Bounds from data sheets and estimates from compiled loops. Neither is a time that anybody measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from gpu_code.gpus import Gpu
from gpu_code.sass import Code, Instruction


@dataclass(frozen=True)
class Work:
    """What the task needs, whoever does it: multiply-adds that are not zero by construction, each byte once."""

    multiply_adds: int
    bytes: int


def bound(work: Work, dtype: str, gpu: Gpu) -> float:
    """Microseconds that no program can beat: max(multiply-adds / peak, bytes / bandwidth)."""
    return 1e6 * max(work.multiply_adds / gpu.peak(dtype), work.bytes / gpu.bandwidth)


def estimate(
    work: Work,
    grid: tuple[int, ...],
    trips: Sequence[float],
    loops: list[list[Instruction]],
    code: Code,
    warps: int,
    resident: int,
    dtype: str,
    gpu: Gpu,
) -> float | None:
    """Microseconds of the loops, by the scarcest of three things, or of the memory, if that is more.

    A multiprocessor issues four instructions per cycle, one for each quarter; a warp waits at least for the stall
    cycles that the compiler wrote, and ``resident`` warps wait at the same time; the tensor cores do their peak. What
    memory and caches make warps wait beyond that is not in the code and not in here.

    Args:
        work: of the task.
        grid: blocks.
        trips: how often each innermost loop with arithmetic runs in a block, in the order of the code.
        loops: the innermost loops.
        code: the whole kernel, which counts as one trip where nothing loops.
        warps: of a block.
        resident: warps on a multiprocessor.
        dtype: of the maps.
        gpu: where.

    Returns:
        None where the loops of the code are not those of ``trips``, or a block does not fit.
    """
    bodies, trips = (loops, trips) if loops else ([code.instructions], [1])
    if len(bodies) != len(trips) or not resident:
        return None
    blocks = math.prod(grid)
    filled = math.ceil(blocks / gpu.multiprocessors)  # blocks that the busiest multiprocessor runs
    at_once = min(resident, filled * warps)
    cycles = 0.0
    for body, trip in zip(bodies, trips, strict=True):
        issue, wait = len(body) / 4, sum(i.stall for i in body) / at_once
        cycles += filled * warps * trip * max(issue, wait)
    arithmetic = work.multiply_adds / gpu.multiprocessors / gpu.tensor[dtype] if _has_tensor(code) else 0.0
    return 1e6 * max(max(cycles, arithmetic) / gpu.clock, work.bytes / gpu.bandwidth)


def _has_tensor(code: Code) -> bool:
    return any(instruction.kind == "tensor" for instruction in code.instructions)

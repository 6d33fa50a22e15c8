"""The CUDA kernels on the headline shapes: what nvcc made of them, and what the emulator counted of their launches."""

from __future__ import annotations

import torch

import zfkernels.ops  # noqa: F401  (registers them)
from gpu_code.cases import Case
from gpu_code.cuda_binaries import compiled, hot_loop, nvcc_version
from gpu_code.cuda_launches import CudaLaunch, launch_of
from gpu_code.estimate import bound, estimate
from gpu_code.gpus import GPUS, MULTIPROCESSORS, resident_warps
from gpu_code.record import Record
from gpu_code.sass import Code, Instruction, count, summary
from gpu_code.triton_family import cuobjdump

# Multiply-adds of one instruction of a warp.
_PRODUCTS = {"HMMA.16816": 2048, "HMMA.1688": 1024, "FFMA2": 64, "FFMA": 32}
# What stages the pooled maps and reads them to unpool them: a loop of its own beside the product's.
_UNPOOLING = "shared pooled load"


def versions() -> dict[str, str]:
    """What the records depend on."""
    return {"nvcc": nvcc_version(), "torch": torch.__version__}


def inspect_case(case: Case, dtype: torch.dtype, arch: str) -> Record:
    """Reads the kernel that the CUDA variant launches for a headline case."""
    launch = launch_of(case, dtype)
    kernel = compiled(arch, cuobjdump())[mangled_for(launch.kernel, dtype)]
    code, name, work = kernel.code, str(dtype).removeprefix("torch."), case.work(dtype)
    hot = hot_loop(code)
    shared = launch.shared + kernel.shared
    resident = resident_warps(MULTIPROCESSORS[arch], code.registers, launch.warps, shared)
    loops, trips = _loops(code, hot, launch)
    gpu = GPUS[arch]
    return Record(
        kernel=kernel.name + (f"_{kernel.arguments}" if kernel.arguments else ""), op=case.op, family="cuda",
        arch=arch, dtype=name, shape=case.name, registers=code.registers, spills=code.spills, shared=shared,
        warps=launch.warps, occupancy=resident, mix=code.mix(), hot_loop=summary(hot) if hot else {},
        wide_loads=code.wide_loads(), bytes_floor=work.bytes, multiply_adds=work.multiply_adds,
        bound_us=bound(work, name, gpu),
        estimate_us=estimate(
            work, (launch.blocks,), trips, loops, code, launch.warps, resident, name, gpu
        ),
        traffic=launch.traffic,
    )  # fmt: skip


def mangled_for(kernel: str, dtype: torch.dtype) -> str:
    """The name of the same kernel for bfloat16, which is launched like float16."""
    return kernel.replace("6__half", "13__nv_bfloat16") if dtype == torch.bfloat16 else kernel


def _loops(code: Code, hot: list[Instruction], launch: CudaLaunch) -> tuple[list[list[Instruction]], list[float]]:
    """The loops that cost most, and how often a warp runs each, by what the emulator counted."""
    products = sum(_products(instruction) for instruction in hot)
    if not products or not launch.multiply_adds:  # a pooling: the loop over its window, unrolled or not
        loads = sum(launch.accesses.get(f"global {array} load", 0) for array in ("input", "values", "frames"))
        once = sum(instruction.kind == "global load" for instruction in hot)
        return ([hot], [loads / launch.warps / once]) if once else ([], [1.0])
    loops, trips = [hot], [launch.multiply_adds / launch.warps / products]
    if _UNPOOLING in launch.accesses:
        loops.append(_unpooling_loop(code, hot))
        trips.append(launch.accesses[_UNPOOLING] / launch.warps)
    return loops, trips


def _unpooling_loop(code: Code, hot: list[Instruction]) -> list[Instruction]:
    """The innermost loop over pooling windows: it adds up what it loads from shared memory."""
    elsewhere = {"async copy", "global load", "global store", "tensor"}
    kinds = [(body, set(count(body))) for body in code.inner_loops() if body != hot]
    found = [body for body, kind in kinds if {"shared", "float"} <= kind and not elsewhere & kind]
    return max(found, key=lambda body: count(body)["float"], default=[])


def _products(instruction: Instruction) -> int:
    """The multiply-adds of one instruction of a warp."""
    return next((n for opcode, n in _PRODUCTS.items() if instruction.text.startswith(opcode)), 0)

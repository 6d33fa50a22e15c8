"""How the CUDA kernels are launched on the headline shapes, and what a block of them does.

The file beside this one is written by the emulator (``tests/simt/launches.py``), which runs the kernels' own launch
code, so that nothing of it is said twice.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

from gpu_code.cases import Case

PATH = Path(__file__).parent / "cuda_launches.json"


@dataclass(frozen=True)
class CudaLaunch:
    """Averages over the blocks that were run.

    Attributes:
        kernel: mangled name of the kernel.
        blocks: of the launch.
        threads: of a block.
        shared: bytes of dynamic shared memory of a block.
        multiply_adds: of a block; on tensor cores each product of float32 counts three times.
        accesses: instructions of warps of a block that access memory, by array.
        traffic: sectors of 32 bytes, or passes over the banks of shared memory, over the ideal, by array.
    """

    kernel: str
    blocks: int
    threads: int
    shared: int
    multiply_adds: float
    accesses: dict[str, float]
    traffic: dict[str, float]

    @property
    def warps(self) -> int:
        return -(-self.threads // 32)


def key(case: Case, dtype: torch.dtype) -> str:
    return f"{case.op}/{case.name}/{str(dtype).removeprefix('torch.')}"


@cache
def _recorded() -> dict[str, CudaLaunch]:
    return {name: CudaLaunch(**fields) for name, fields in json.loads(PATH.read_text()).items()}


def is_recorded(case: Case) -> bool:
    """Whether the file has the launch of a headline case."""
    return key(case, torch.float16) in _recorded()


def launch_of(case: Case, dtype: torch.dtype) -> CudaLaunch:
    """The launch of a headline case; bfloat16 is launched like float16."""
    return _recorded()[key(case, torch.float32 if dtype == torch.float32 else torch.float16)]

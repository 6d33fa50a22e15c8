"""GPUs: what one multiprocessor holds, and data-sheet rates.

Sources: CUDA C++ Programming Guide, table "Technical Specifications per Compute Capability"; data sheets of T4, A100
SXM 80 GB, H100 SXM, B200 and GeForce RTX 5090 (dense rates, float32 accumulation). Rates are what the sheets promise,
not what anybody measured here.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Multiprocessor:
    """What one holds; ``shared`` and ``shared_of_block`` in bytes."""

    shared: int
    shared_of_block: int
    warps: int = 64
    blocks: int = 32
    registers: int = 65536
    reserved: int = 1024  # bytes of shared memory that the system takes for each block


MULTIPROCESSORS = {
    "sm_75": Multiprocessor(65536, 65536, 32, 16, reserved=0),
    "sm_80": Multiprocessor(167936, 166912),
    "sm_86": Multiprocessor(102400, 101376, 48, 16),
    "sm_89": Multiprocessor(102400, 101376, 48, 24),
    "sm_90": Multiprocessor(233472, 232448),
    "sm_100": Multiprocessor(233472, 232448),
    "sm_120": Multiprocessor(102400, 101376, 48, 24),
}


@dataclass(frozen=True)
class Gpu:
    """``tensor``: multiply-adds per cycle and multiprocessor by dtype; bandwidth in bytes per second; clock in Hz."""

    name: str
    multiprocessors: int
    clock: float
    bandwidth: float
    tensor: dict[str, int]

    @property
    def fma(self) -> int:
        """Multiply-adds of float32 outside the tensor cores, per cycle and multiprocessor."""
        return 64 if self.name in ("T4", "A100") else 128

    def peak(self, dtype: str) -> float:
        """Multiply-adds per second on the tensor cores (float32 means TF32)."""
        return self.tensor[dtype] * self.multiprocessors * self.clock


def _tensor(half: int) -> dict[str, int]:
    return {"float16": half, "bfloat16": half, "float32": half // 2}


GPUS = {
    "sm_75": Gpu("T4", 40, 1.59e9, 0.32e12, {"float16": 512}),
    "sm_80": Gpu("A100", 108, 1.41e9, 2.039e12, _tensor(1024)),
    "sm_90": Gpu("H100", 132, 1.83e9, 3.35e12, _tensor(2048)),
    "sm_100": Gpu("B200", 148, 1.85e9, 8.0e12, _tensor(4096)),
    "sm_120": Gpu("RTX 5090", 170, 2.41e9, 1.792e12, {"float16": 256, "bfloat16": 256, "float32": 128}),
}

TURING = "sm_75"  # Triton has no matrix instructions for it


def resident_warps(unit: Multiprocessor, registers: int, warps: int, shared: int) -> int:
    """Warps that one multiprocessor holds at once; 0 where a block does not fit."""
    if shared > unit.shared_of_block or registers > 255 or warps > 32:
        return 0
    of_warp = -(-max(registers, 1) * 32 // 256) * 256  # registers are given out 256 at a time, to a quarter each
    by_registers = unit.registers // 4 // of_warp * 4 // warps
    by_shared = unit.shared // max(1, -(-(shared + unit.reserved) // 128) * 128)
    return min(unit.warps // warps, by_registers, by_shared, unit.blocks) * warps

"""The CUDA kernels as nvcc left them in the library: registers, spills, instructions, hot loops, occupancy.

Reads ``zfkernels/_C_cuda*.so`` with cuobjdump. Nothing here is a time: what the numbers promise has to be measured.
"""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any


def _shared(float32: int, narrow: int) -> dict[str, int]:
    return {"float32": float32, "float16": narrow, "bfloat16": narrow}


# By kernel: its op, and the threads and bytes of dynamic shared memory by dtype of its launch on the headline shape
# (ZFNet's first and second stage, a square of 32 pixels, 3 x 3 filters; tests/simt/test_traffic.py launches them).
KERNELS: dict[str, tuple[str, int, dict[str, int]]] = {
    "conv_transpose_fma_kernel": ("unpool_relu_conv_transpose2d", 128, _shared(34336, 32400)),
    "conv_transpose_mma_kernel": ("unpool_relu_conv_transpose2d", 128, _shared(12576, 17232)),
    "window_conv_fma_kernel": ("window_conv2d", 128, {}),
    "window_conv_mma_kernel": ("window_conv2d", 128, _shared(12288, 16384)),
    "occluded_conv_kernel": ("occluded_conv2d", 256, _shared(45136, 45136)),
    "constant_outputs_kernel": ("occluded_conv2d", 128, {}),
    "window_max_pool_kernel": ("window_max_pool2d", 256, {}),
    "max_pool_kernel": ("max_pool2d_with_switches", 256, {}),
}
TENSOR = {"conv_transpose_mma_kernel", "window_conv_mma_kernel"}
DTYPES = {"f": "float32", "6__half": "float16", "13__nv_bfloat16": "bfloat16"}

CLASSES = {
    "tensor": r"(H|I|D|B|Q|O)MMA|(H|I|Q)GMMA|UTC\w*MMA",
    "async copy": r"LDGSTS|UBLKCP|UTMALDG|UTMASTG",
    "global load": r"LDG|LD\b",
    "global store": r"STG|ST\b",
    "shared": r"LDS|LDSM|STS|STSM",
    "local": r"LDL|STL",
    "atomic": r"ATOM|RED\b",
    "wait": r"BAR|WARPSYNC|SYNCS|DEPBAR|LDGDEPBAR|MEMBAR|NOP",
    "float": r"F(FMA|MUL|ADD|SEL|SETP|MNMX|2F|2FP|CHK|SET)|MUFU|H(FMA|ADD|MUL|MNMX|SET|SETP)2",
    "integer": r"IMAD|IADD|LEA|LOP|SHF|ISETP|IMNMX|PRMT|IABS|SGXT|BMSK|SEL|PLOP|I2F|F2I|VI\w+|R2UR|S2U?R|MOV|U\w+",
    "branch": r"BRA|EXIT|CALL|RET|BSSY|BSYNC|BREAK",
}


@dataclass(frozen=True)
class Multiprocessor:
    """What one holds; CUDA C++ Programming Guide, "Technical Specifications per Compute Capability"."""

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


def occupancy(arch: str, registers: int, threads: int, shared: int) -> float:
    """The share of the warps of a multiprocessor of ``arch`` that blocks of this kernel can fill."""
    unit = MULTIPROCESSORS[arch]
    if threads > 1024 or registers > 255 or shared > unit.shared_of_block:
        return 0.0
    warps = -(-threads // 32)
    of_warp = -(-max(registers, 1) * 32 // 256) * 256  # registers are given out 256 at a time, to a quarter each
    by_registers = unit.registers // 4 // of_warp * 4 // warps
    by_shared = unit.shared // max(1, -(-(shared + unit.reserved) // 128) * 128)
    return min(unit.warps // warps, unit.blocks, by_registers, by_shared) * warps / unit.warps


@dataclass(frozen=True)
class Instruction:
    """``stall``: cycles that the compiler makes the warp wait after it."""

    address: int
    text: str
    stall: int

    @property
    def kind(self) -> str:
        return _class_of(self.text.split(maxsplit=1)[0])


@cache
def _class_of(opcode: str) -> str:
    return next((name for name, pattern in CLASSES.items() if re.match(pattern, opcode)), "other")


_LINE = re.compile(r"/\*([0-9a-f]{4,})\*/\s+(.*?);\s+/\* 0x[0-9a-f]{16} \*/\n\s+/\* 0x([0-9a-f]{16}) \*/")
_USAGE = re.compile(r"Function (\S+):\s+REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)")


def instructions(text: str) -> list[Instruction]:
    """Those of one function, as ``cuobjdump -sass`` prints them."""
    return [
        Instruction(int(address, 16), re.sub(r"^@!?U?P\w+\s+", "", body), int(control, 16) >> 41 & 0xF)
        for address, body, control in _LINE.findall(text)
    ]


def count(code: list[Instruction]) -> dict[str, int]:
    """Instructions by class."""
    return dict(Counter(instruction.kind for instruction in code).most_common())


def hot_loop(code: list[Instruction]) -> dict[str, int]:
    """The shortest loop with tensor instructions, else the innermost one with the most arithmetic; empty without loops.

    ``instructions``, ``stalls`` (cycles) and instructions by class. Loops inside of a tensor loop (copies) are in it.
    """
    spans = set()
    for instruction in code:
        target = re.match(r"BRA\S*\s+.*?0x([0-9a-f]+)", instruction.text)
        if target and int(target[1], 16) < instruction.address:
            spans.add((int(target[1], 16), instruction.address))
    bodies = {span: [i for i in code if span[0] <= i.address <= span[1]] for span in sorted(spans)}
    inner = [a for a in spans if not any(a != b and a[0] <= b[0] and b[1] <= a[1] for b in spans)]
    tensor = [body for body in bodies.values() if "tensor" in count(body)]
    if not bodies:
        return {}
    hottest = (
        min(tensor, key=len) if tensor else max((bodies[a] for a in inner), key=lambda b: count(b).get("float", 0))
    )
    return {"instructions": len(hottest), "stalls": sum(i.stall for i in hottest), **count(hottest)}


def wide_loads(code: list[Instruction]) -> dict[str, int]:
    """Loads from global memory, copies to shared memory among them, by width in bits."""
    widths: Counter[str] = Counter()
    for instruction in code:
        if instruction.kind in ("global load", "async copy"):
            width = re.search(r"\.(?:U|S)?(8|16|64|128)\b", instruction.text.split()[0])
            widths[width[1] if width else "32"] += 1
    return dict(sorted(widths.items()))


def name_of(mangled: str) -> tuple[str, str, str] | None:
    """Kernel, dtype and the rest of the template's arguments of a mangled name; None for what is not listed."""
    pattern = r"_ZN9zfkernels4cuda\d+(\w+?_kernel)I(f|6__half|13__nv_bfloat16)((?:L[a-z]\d+E)*)E"
    found = re.match(pattern, mangled)
    if found is None or found[1] not in KERNELS:
        return None
    return found[1], DTYPES[found[2]], "_".join(re.findall(r"L[a-z](\d+)E", found[3]))


def records(library: Path, cuobjdump: Path, archs: Collection[str] | None = None) -> Iterator[dict[str, Any]]:
    """One record for each kernel, dtype and architecture in the library.

    Args:
        library: ``_C_cuda*.so``.
        cuobjdump: the tool, of CUDA's toolkit or Triton's.
        archs: such as ``{"sm_90"}``; None: all that the library holds.

    Yields:
        kernel, op, family ("cuda"), arch, dtype, registers, spills (bytes of local memory of a thread), shared (bytes
        of a block), threads, occupancy (share of a multiprocessor's warps), mix, hot_loop, wide_loads.

    Raises:
        RuntimeError: the tool failed.
    """
    held = set(re.findall(r"\bsm_\d+", _run(cuobjdump, "-lelf", library)))
    for arch in sorted(held if archs is None else held & set(archs)):
        usage = {
            name: numbers for name, *numbers in _USAGE.findall(_run(cuobjdump, "-res-usage", "-arch", arch, library))
        }
        listing = _run(cuobjdump, "-sass", "-arch", arch, library)
        for function in listing.split("Function : ")[1:]:
            mangled, _, text = function.partition("\n")
            name = name_of(mangled)
            if name is None:
                continue
            kernel, dtype, rest = name
            op, threads, of_launch = KERNELS[kernel]
            registers, stack, fixed, local = map(int, usage[mangled])
            shared, code = fixed + of_launch.get(dtype, 0), instructions(text)
            yield {
                "kernel": kernel + (f"_{rest}" if rest else ""), "op": op, "family": "cuda",
                "arch": arch, "dtype": dtype,
                "registers": registers, "spills": max(stack, local), "shared": shared, "threads": threads,
                "occupancy": occupancy(arch, registers, threads, shared),
                "mix": count(code), "hot_loop": hot_loop(code), "wide_loads": wide_loads(code),
            }  # fmt: skip


def _run(*command: object) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} failed: {done.stderr.strip()[:200]}")
    return done.stdout

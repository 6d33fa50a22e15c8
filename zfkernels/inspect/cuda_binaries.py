"""The CUDA kernels as nvcc left them in the library: registers, spills, instructions, hot loops, occupancy.

Reads ``zfkernels/_C_cuda*.so`` with cuobjdump. Nothing here is a time: what the numbers promise has to be measured.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from zfkernels.inspect.gpus import MULTIPROCESSORS, resident_warps
from zfkernels.inspect.sass import Code, count, instructions, run_tool, summary


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

_USAGE = re.compile(r"Function (\S+):\s+REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)")


def occupancy(arch: str, registers: int, threads: int, shared: int) -> float:
    """The share of the warps of a multiprocessor of ``arch`` that blocks of this kernel can fill."""
    unit = MULTIPROCESSORS[arch]
    return resident_warps(unit, registers, -(-threads // 32), shared) / unit.warps


def hot_loop(code: Code) -> dict[str, int]:
    """The shortest loop with tensor instructions, else the innermost one with the most arithmetic; empty without loops.

    ``instructions``, ``stalls`` (cycles) and instructions by class. Loops inside of a tensor loop (copies) are in it.
    """
    bodies = code.loops()
    if not bodies:
        return {}
    tensor = [body for body in bodies.values() if "tensor" in count(body)]
    inner = [a for a in bodies if not any(a != b and a[0] <= b[0] and b[1] <= a[1] for b in bodies)]
    floats = max((bodies[a] for a in inner), key=lambda body: count(body).get("float", 0))
    return summary(min(tensor, key=len) if tensor else floats)


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
    held = set(re.findall(r"\bsm_\d+", run_tool(cuobjdump, "-lelf", library)))
    for arch in sorted(held if archs is None else held & set(archs)):
        usage = {
            name: numbers
            for name, *numbers in _USAGE.findall(run_tool(cuobjdump, "-res-usage", "-arch", arch, library))
        }
        listing = run_tool(cuobjdump, "-sass", "-arch", arch, library)
        for function in listing.split("Function : ")[1:]:
            mangled, _, text = function.partition("\n")
            name = name_of(mangled)
            if name is None:
                continue
            kernel, dtype, rest = name
            op, threads, of_launch = KERNELS[kernel]
            registers, stack, fixed, local = map(int, usage[mangled])
            shared = fixed + of_launch.get(dtype, 0)
            code = Code(instructions(text), registers, max(stack, local))
            yield {
                "kernel": kernel + (f"_{rest}" if rest else ""), "op": op, "family": "cuda",
                "arch": arch, "dtype": dtype,
                "registers": registers, "spills": code.spills, "shared": shared, "threads": threads,
                "occupancy": occupancy(arch, registers, threads, shared),
                "mix": code.mix(), "hot_loop": hot_loop(code), "wide_loads": code.wide_loads(),
            }  # fmt: skip

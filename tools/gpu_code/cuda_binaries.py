"""The CUDA kernels as nvcc compiles them: of the built library, or of objects made on demand.

``zfkernels/_C_cuda*.so`` is read where it holds the architecture and is not older than its sources; else nvcc compiles
the device code of ``csrc/cuda`` alone, a few seconds for each source, kept under ``build/inspect``.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from gpu_code.sass import Code, Instruction, count, instructions, run_tool

REPOSITORY = Path(__file__).parent.parent.parent
SOURCES = REPOSITORY / "csrc" / "cuda"
SHARED = REPOSITORY / "csrc" / "common"  # included by them
OBJECTS = REPOSITORY / "build" / "gpu_code"
# Those of setup.py, and those that torch adds, that matter to device code.
NVCC_FLAGS = [
    "-std=c++17", "-O3", "-lineinfo", "-DUSE_CUDA", "-DTORCH_TARGET_VERSION=0x020a000000000000",
    "--expt-relaxed-constexpr", "-D__CUDA_NO_HALF_OPERATORS__", "-D__CUDA_NO_HALF_CONVERSIONS__",
    "-D__CUDA_NO_HALF2_OPERATORS__", "-D__CUDA_NO_BFLOAT16_CONVERSIONS__",
]  # fmt: skip

KERNELS = {
    "conv_transpose_fma_kernel": "unpool_relu_conv_transpose2d",
    "conv_transpose_mma_kernel": "unpool_relu_conv_transpose2d",
    "window_conv_fma_kernel": "window_conv2d",
    "window_conv_mma_kernel": "window_conv2d",
    "occluded_conv_kernel": "occluded_conv2d",
    "constant_outputs_kernel": "occluded_conv2d",
    "window_max_pool_kernel": "window_max_pool2d",
    "window_avg_pool_kernel": "window_avg_pool2d",
    "window_gather_kernel": "window_gather",
    "run_cells_kernel": "window_reduce",
    "run_rows_kernel": "window_reduce",
    "window_reduce_kernel": "window_reduce",
    "max_pool_kernel": "max_pool2d_with_switches",
}
TENSOR = {"conv_transpose_mma_kernel", "window_conv_mma_kernel"}
DTYPES = {"f": "float32", "6__half": "float16", "13__nv_bfloat16": "bfloat16"}

_NEITHER = "expected zfkernels._C_cuda, built (make cuda-build), or nvcc on the path and the sources in csrc/cuda"
_USAGE = re.compile(r"Function (\S+):\s+REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)")
_NAME = re.compile(r"_ZN9zfkernels4cuda\d+(\w+?_kernel)I(f|6__half|13__nv_bfloat16)((?:L[a-z]\d+E)*)E")


@dataclass(frozen=True)
class Kernel:
    """One kernel for one dtype; ``shared``: bytes of a block that are fixed when it is compiled."""

    name: str
    dtype: str
    arguments: str
    code: Code
    shared: int


def name_of(mangled: str) -> tuple[str, str, str] | None:
    """Kernel, dtype and the rest of the template's arguments of a mangled name; None for what is not listed."""
    found = _NAME.match(mangled)
    if found is None or found[1] not in KERNELS:
        return None
    return found[1], DTYPES[found[2]], "_".join(re.findall(r"L[a-z](\d+)E", found[3]))


def hot_loop(code: Code) -> list[Instruction]:
    """The shortest loop with tensor instructions, else the innermost one with the most arithmetic; empty without loops.

    Loops inside of a tensor loop (copies) are in it.
    """
    bodies = code.loops()
    tensor = [body for body in bodies.values() if "tensor" in count(body)]
    inner = [a for a in bodies if not any(a != b and a[0] <= b[0] and b[1] <= a[1] for b in bodies)]
    floats = max((bodies[a] for a in inner), key=lambda body: count(body).get("float", 0), default=[])
    return min(tensor, key=len) if tensor else floats


def kernels(binary: Path, cuobjdump: Path, arch: str) -> dict[str, Kernel]:
    """The kernels of a library or a cubin for one architecture, by their mangled names.

    Raises:
        RuntimeError: the tool failed.
    """
    usage = {
        name: [int(number) for number in numbers]
        for name, *numbers in _USAGE.findall(run_tool(cuobjdump, "-res-usage", "-arch", arch, binary))
    }
    found = {}
    for function in run_tool(cuobjdump, "-sass", "-arch", arch, binary).split("Function : ")[1:]:
        mangled, _, text = function.partition("\n")
        name = name_of(mangled)
        if name is not None:
            registers, stack, fixed, local = usage[mangled]
            found[mangled] = Kernel(*name, Code(instructions(text), registers, max(stack, local)), fixed)
    return found


def library() -> Path | None:
    """``_C_cuda`` where it is built and not older than its sources, which an installed package does not have."""
    found = sorted((REPOSITORY / "zfkernels").glob("_C_cuda.*so"))
    newest = max((path.stat().st_mtime for path in (*SOURCES.glob("*"), *SHARED.glob("*"))), default=0.0)
    return found[0] if found and found[0].stat().st_mtime >= newest else None


@cache
def compiled(arch: str, cuobjdump: Path) -> dict[str, Kernel]:
    """All kernels for ``arch``, such as ``"sm_90"``, from the library or compiled now.

    Raises:
        FileNotFoundError: there is neither such a library nor nvcc and the sources.
        RuntimeError: a tool failed.
    """
    built = library()
    if built is not None and re.search(rf"\b{arch}\b", run_tool(cuobjdump, "-lelf", built)):
        return kernels(built, cuobjdump, arch)
    found: dict[str, Kernel] = {}
    for cubin in objects(arch):
        found |= kernels(cubin, cuobjdump, arch)
    return found


def why_not() -> str | None:
    """Why there is no machine code of the CUDA kernels to be had here, or None."""
    if library() is None and (shutil.which("nvcc") is None or not any(SOURCES.glob("*.cu"))):
        return f"{_NEITHER}, got neither"
    return None


def nvcc_version() -> str:
    """Such as ``"13.0.88"``, of the nvcc on the path, or ``"unknown"``."""
    release = re.search(r"V(\d+\.\d+\.\d+)", run_tool("nvcc", "--version")) if shutil.which("nvcc") else None
    return release[1] if release else "unknown"


def objects(arch: str) -> list[Path]:
    """The device code of every source, compiled for one architecture; what was compiled before is taken again."""
    import torch

    sources = sorted(SOURCES.glob("*.cu"))
    if shutil.which("nvcc") is None or not sources:
        raise FileNotFoundError(f"gpu_code: {_NEITHER}, got neither for {arch}")
    digest = hashlib.sha256(" ".join([nvcc_version(), *NVCC_FLAGS]).encode())
    for path in sorted([*SOURCES.iterdir(), *SHARED.iterdir()]):
        digest.update(path.name.encode() + path.read_bytes())
    folder = OBJECTS / digest.hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for source in sources:
        cubin = folder / f"{source.stem}.{arch}.cubin"
        if not cubin.exists():
            unfinished = cubin.with_suffix(f".{os.getpid()}")
            include = f"-I{Path(torch.__file__).parent / 'include'}"
            run_tool("nvcc", *NVCC_FLAGS, include, "-cubin", f"-arch={arch}", source, "-o", unfinished)
            unfinished.replace(cubin)
        found.append(cubin)
    return found

"""Triton kernels compiled ahead of time for GPUs that are not here."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from gpu_code.cases import Case, launches_of
from gpu_code.estimate import bound, estimate
from gpu_code.gpus import GPUS, MULTIPROCESSORS, resident_warps
from gpu_code.record import Record
from gpu_code.sass import Code, count, disassemble, summary

_TYPES = {
    torch.float32: "*fp32", torch.float16: "*fp16", torch.bfloat16: "*bf16", torch.uint8: "*u8",
    torch.int32: "*i32", torch.int64: "*i64",
}  # fmt: skip


def versions() -> dict[str, str]:
    """What the records depend on."""
    import triton

    return {"triton": triton.__version__, "torch": torch.__version__}


def specialised(launch: Any) -> tuple[dict[str, str], dict[str, Any], dict[tuple[int], Any]]:
    """Signature, constants and attributes of a recorded launch, as Triton's own launcher would find them on a GPU."""
    kernel = launch.kernel
    values = dict(zip(kernel.arg_names, launch.args, strict=False))
    values |= {name: value for name, value in launch.options.items() if name in kernel.arg_names}
    signature, constants, attributes = {}, {}, {}
    for position, parameter in enumerate(kernel.params):
        name, value = parameter.name, values[parameter.name]
        if parameter.is_constexpr or value is None or (isinstance(value, int) and value == 1):
            signature[name], constants[name] = "constexpr", value
            continue
        if isinstance(value, torch.Tensor):
            signature[name] = _TYPES[value.dtype]
        else:
            signature[name] = "i32" if -(2**31) <= value < 2**31 else "i64"
        if isinstance(value, torch.Tensor) or value % 16 == 0:  # PyTorch aligns what it allocates
            attributes[(position,)] = [["tt.divisibility", 16]]
    return signature, constants, attributes


def compile_for(launch: Any, arch: str) -> Any:
    """The compiled kernel of a recorded launch; Triton keeps it in its cache, by source and options."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    if triton.knobs.runtime.interpret:
        raise RuntimeError("gpu_code: expected a process that compiles, got TRITON_INTERPRET=1")
    nvidia = arch.startswith("sm_")
    target = GPUTarget("cuda", int(arch[3:]), 32) if nvidia else GPUTarget("hip", arch, 64)
    options = {name: value for name, value in launch.options.items() if name in ("num_warps", "num_stages")}
    signature, constants, attributes = specialised(launch)
    source = ASTSource(launch.kernel, signature, constants, attributes)
    return triton.compile(source, target=target, options=options)


def inspect_case(case: Case, dtype: torch.dtype, arch: str) -> Record:
    """Compiles the kernel of a headline case and says what its code says."""
    (launch,) = launches_of(case, dtype, arch)
    compiled = compile_for(launch, arch)
    name = str(dtype).removeprefix("torch.")
    work = case.work(dtype)
    common: dict[str, Any] = {
        "kernel": compiled.metadata.name, "op": case.op, "family": "triton", "arch": arch, "dtype": name,
        "shape": case.name, "shared": compiled.metadata.shared, "warps": compiled.metadata.num_warps,
        "bytes_floor": work.bytes, "multiply_adds": work.multiply_adds,
    }  # fmt: skip
    if arch not in GPUS:
        return Record(**common, **_amd(compiled.asm["amdgcn"]))
    code: Code = disassemble(compiled.asm["cubin"], cuobjdump())
    loops = code.inner_loops()
    hot = max(loops, key=_arithmetic, default=[])
    gpu = GPUS[arch]
    resident = resident_warps(MULTIPROCESSORS[arch], code.registers, common["warps"], common["shared"])
    return Record(
        **common, registers=code.registers, spills=code.spills, occupancy=resident, mix=code.mix(),
        hot_loop=summary(hot) if hot else {}, wide_loads=code.wide_loads(), bound_us=bound(work, name, gpu),
        estimate_us=estimate(work, launch.grid, case.trips(launch), loops, code, common["warps"], resident, name, gpu),
    )  # fmt: skip


def _arithmetic(loop: list[Any]) -> int:
    mix = count(loop)
    return 1000 * mix.get("tensor", 0) + mix.get("float", 0)


def cuobjdump() -> Path:
    """The disassembler that comes with Triton, else that of the toolkit.

    Raises:
        FileNotFoundError: there is none.
    """
    import triton

    bundled = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    found = str(bundled) if bundled.is_file() else shutil.which("cuobjdump")
    if found is None:
        raise FileNotFoundError("gpu_code: expected cuobjdump with Triton or on the path, got neither")
    return Path(found)


def _amd(text: str) -> dict[str, Any]:
    """Resources from AMD's assembly: registers are vector registers, a wave counts as two warps."""

    def number(name: str) -> int:
        match = re.search(rf"\.{name}:\s*(\d+)", text)
        return int(match[1]) if match else 0

    waves = re.search(r"Occupancy:\s*(\d+)", text)
    opcodes = re.findall(r"^\s+((?:v|s|global|buffer|ds|flat)_\w+)", text, re.MULTILINE)
    kinds: dict[str, Callable[[str], bool]] = {
        "tensor": lambda op: "mfma" in op,
        "global load": lambda op: op.startswith(("global_load", "buffer_load")),
        "global store": lambda op: op.startswith(("global_store", "buffer_store")),
        "shared": lambda op: op.startswith("ds_"),
    }
    mix = {kind: sum(map(test, opcodes)) for kind, test in kinds.items()}
    wide = sum("load_dwordx4" in op for op in opcodes)
    return {
        "registers": number("vgpr_count"), "spills": 4 * number("vgpr_spill_count"),
        "occupancy": 4 * 2 * int(waves[1]) if waves else 0, "mix": mix | {"instructions": len(opcodes)},
        "hot_loop": {}, "wide_loads": {"128": wide}, "note": "compiles; no bound is given for this GPU",
    }  # fmt: skip

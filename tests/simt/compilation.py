"""Builds the emulator with what it runs, once for each state of the sources, under ``build/simt``.

Three ways to build: ``plain`` for numbers, ``sanitized`` for bounds (AddressSanitizer and UBSan), ``recorded`` for
races and traffic. Three things to build: ``emulated``, a library of the package's kernels, from the
very sources of the extension, as operators of CPU tensors;
``planted``, a program of kernels with and without planted bugs; ``operations``, one that tests each operation.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).parent
REPOSITORY = HERE.parent.parent
KERNELS = REPOSITORY / "csrc" / "cuda"
BUILT = REPOSITORY / "build" / "simt"

COMPILER = os.environ.get("CXX", "c++")
COMMON = ["-std=c++17", "-g1", "-fPIC", "-fvisibility=hidden", "-Wall", f"-I{HERE}", f"-I{KERNELS}"]
WAYS = {
    "plain": ["-O2"],
    "sanitized": ["-O1", "-fno-omit-frame-pointer", "-fsanitize=address,undefined", "-fno-sanitize=vptr",
                  "-fno-sanitize-recover=undefined"],
    "recorded": ["-O1", "-DSIMT_RECORD"],
}  # fmt: skip
RUNTIME = ["fiber.cpp", "block.cpp"]
RECORDER = ["record.cpp", "races.cpp", "traffic.cpp", "instrumented.cpp"]
# Only the kernels' accesses are to be seen, not those of the emulator. -O1 keeps one access of the source one.
INSTRUMENT = ["-fsanitize=thread", "--param=tsan-instrument-func-entry-exit=0"]


def compiler() -> str | None:
    """Where the C++ compiler is, or None."""
    return shutil.which(COMPILER.split()[0])


def emulated(way: str) -> Path:
    """The library that registers ``torch.ops.zfkernels_simt``; built if its sources have changed."""
    import torch

    root = Path(torch.__file__).parent
    flags = ["-DTORCH_TARGET_VERSION=0x020a000000000000", f"-isystem{root / 'include'}"]
    link = ["-shared", f"-L{root / 'lib'}", "-ltorch_cpu", "-lc10", "-ldl"]
    kernels = sorted(KERNELS.glob("*.cu"))
    return _build("emulated", [*kernels, HERE / "api.cpp"], way, flags, link, [*KERNELS.iterdir()], torch.__version__)


def program(name: str, way: str, *flags: str) -> Path:
    """``planted`` or ``operations``, kernels of the emulator's own tests; built if its sources have changed."""
    return _build(name, [HERE / f"{name}.cpp"], way, list(flags), ["-ldl"], [KERNELS / "primitives.cuh"], "")


def _build(
    name: str, kernels: list[Path], way: str, flags: list[str], link: list[str], depends: list[Path], salt: str
) -> Path:
    flags = [*COMMON, *WAYS[way], *flags]
    runtime = [HERE / source for source in (*RUNTIME, *(RECORDER if way == "recorded" else []))]
    digest = hashlib.sha256(" ".join([COMPILER, salt, *flags, *link]).encode())
    for path in sorted([*HERE.glob("*.h"), *HERE.glob("*.cpp"), *HERE.glob("*.cuh"), *depends]):
        digest.update(path.name.encode() + path.read_bytes())
    target = BUILT / f"{name}-{way}-{digest.hexdigest()[:16]}"
    if target.exists():
        return target
    work = BUILT / f"{target.name}.work{os.getpid()}"
    work.mkdir(parents=True)
    try:
        objects = [str(work / source.name) + ".o" for source in (*kernels, *runtime)]

        def compile_one(source: Path, target: str) -> None:
            instrument = INSTRUMENT if way == "recorded" and source in kernels else []
            command = [*COMPILER.split(), *flags, *instrument, "-x", "c++", "-c", str(source), "-o", target]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr}")

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(compile_one, [*kernels, *runtime], objects))
        sanitizers = [flag for flag in WAYS[way] if flag.startswith("-fsanitize=")]
        subprocess.run([*COMPILER.split(), *objects, *sanitizers, *link, "-o", str(work / "done")], check=True)
        for old in BUILT.glob(f"{name}-{way}-*"):
            if old.is_file():
                old.unlink()
        os.replace(work / "done", target)  # another process may have built the same: one of the two stays
    finally:
        shutil.rmtree(work)
    return target


if __name__ == "__main__":
    for chosen in sys.argv[1:] or WAYS:
        print(emulated(chosen))
        print(program("planted", chosen))

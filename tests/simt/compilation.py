"""Builds the emulator with what it runs, once for each state of the sources, under ``build/simt``.

Ways to build: ``plain`` for numbers, ``sanitized`` for bounds (AddressSanitizer and UBSan), ``recorded`` for races and
traffic, ``covered`` for the lines that are reached (tests/reached). Three things to build: ``emulated``, a library of
the package's kernels, from the very sources of the extension, as operators of CPU tensors; ``planted``, a program of
kernels with and without planted bugs; ``operations``, one that tests each operation.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).parent
REPOSITORY = HERE.parent.parent
KERNELS = REPOSITORY / "csrc" / "cuda"
SHARED = REPOSITORY / "csrc" / "common"
BUILT = REPOSITORY / "build" / "simt"

COMPILER = os.environ.get("CXX", "c++")
COMMON = ["-std=c++17", "-g1", "-fPIC", "-fvisibility=hidden", "-Wall", f"-I{HERE}", f"-I{KERNELS}"]
WAYS = {
    "plain": ["-O2"],
    "sanitized": ["-O1", "-fno-omit-frame-pointer", "-fsanitize=address,undefined", "-fno-sanitize=vptr",
                  "-fno-sanitize-recover=undefined"],
    "recorded": ["-O1", "-DSIMT_RECORD"],
    "covered": ["-O1", "--coverage", "-fprofile-abs-path"],
}  # fmt: skip
RUNTIME = ["fiber.cpp", "block.cpp"]
RECORDER = ["record.cpp", "races.cpp", "traffic.cpp", "instrumented.cpp"]
# Only the kernels' accesses are to be seen, not those of the emulator. -O1 keeps one access of the source one.
KEPT = 7 * 24 * 3600  # seconds: objects of older states go
PROGRAM = [KERNELS / "numbers.cuh"]  # what the programs include of the package
# In place of the package's headers of these names: the kernels include them first, and find those included already.
REPLACED = [f"-include{HERE / name}" for name in ("primitives.cuh", "on_device.h")]
INSTRUMENT = ["-fsanitize=thread", "--param=tsan-instrument-func-entry-exit=0"]


def compiler() -> str | None:
    """Where the C++ compiler is, or None."""
    return shutil.which(COMPILER.split()[0])


def emulated(way: str) -> Path:
    """The library that registers ``torch.ops.zfkernels_simt``; built if its sources have changed.

    SIMT_KERNELS names the files of ``csrc/cuda`` to build, without ``.cu`` and with commas; all of them if it is not
    set.
    """
    import torch

    root = Path(torch.__file__).parent
    flags = ["-DTORCH_TARGET_VERSION=0x020a000000000000", f"-isystem{root / 'include'}"]
    link = ["-shared", f"-L{root / 'lib'}", "-ltorch_cpu", "-lc10", "-ldl"]
    chosen = os.environ.get("SIMT_KERNELS")
    kernels = [KERNELS / f"{name}.cu" for name in chosen.split(",")] if chosen else sorted(KERNELS.glob("*.cu"))
    depends = [*KERNELS.iterdir(), *SHARED.iterdir()]
    return _build("emulated", [*kernels, HERE / "api.cpp"], way, flags, link, depends, torch.__version__)


def program(name: str, way: str, *flags: str) -> Path:
    """``planted`` or ``operations``, kernels of the emulator's own tests; built if its sources have changed."""
    return _build(name, [HERE / f"{name}.cpp"], way, list(flags), ["-ldl"], PROGRAM, "")


def _build(
    name: str, kernels: list[Path], way: str, flags: list[str], link: list[str], depends: list[Path], salt: str
) -> Path:
    """``depends``: what the kernels include, beside the emulator's own files. Objects are kept, each for itself."""
    flags = [*COMMON, *WAYS[way], *flags]
    runtime = [HERE / source for source in (*RUNTIME, *(RECORDER if way == "recorded" else []))]
    known = _digest(" ".join([COMPILER, salt, *flags]), [*HERE.glob("*.h"), *HERE.glob("*.cuh")])

    def object_of(source: Path) -> Path:
        found = _digest(known, [source, *(depends if source.parent == KERNELS or depends == PROGRAM else [])])
        return BUILT / "objects" / f"{name}-{way}-{source.name}-{found}.o"

    objects = [object_of(source) for source in (*kernels, *runtime)]
    target = BUILT / f"{name}-{way}-{_digest(' '.join([*link, *(path.name for path in objects)]), [])}"
    if target.exists():
        return target
    work = BUILT / f"{target.name}.work{os.getpid()}"
    work.mkdir(parents=True)
    (BUILT / "objects").mkdir(exist_ok=True)
    for old in (BUILT / "objects").iterdir():
        if old.stat().st_mtime < time.time() - KEPT:
            old.unlink(missing_ok=True)

    def compile_one(source: Path, made: Path) -> None:
        if made.exists():
            return
        instrument = INSTRUMENT if way == "recorded" and source in kernels else []
        replaced = REPLACED if source.parent == KERNELS else []
        part = made if way == "covered" else work / made.name  # gcov looks for its notes beside what was compiled
        command = [*COMPILER.split(), *flags, *instrument, *replaced, "-x", "c++", "-c", str(source), "-o", str(part)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr}")
        part.replace(made)

    try:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(compile_one, [*kernels, *runtime], objects))
        sanitizers = [flag for flag in WAYS[way] if flag.startswith(("-fsanitize=", "--coverage"))]
        linked = [*COMPILER.split(), *map(str, objects), *sanitizers, *link, "-o", str(work / "done")]
        subprocess.run(linked, check=True)
        for old in BUILT.glob(f"{name}-{way}-*"):
            if old.is_file():
                old.unlink()
        os.replace(work / "done", target)  # another process may have built the same: one of the two stays
    finally:
        shutil.rmtree(work)
    return target


def _digest(text: str, files: list[Path]) -> str:
    """Of a text and of files, wherever this repository lies."""
    digest = hashlib.sha256(text.replace(str(REPOSITORY), "").encode())
    for path in sorted(files):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


if __name__ == "__main__":
    for chosen in sys.argv[1:] or WAYS:
        print(emulated(chosen))
        print(program("planted", chosen))

"""A copy of the tree in which slips are planted, and the C++ library of one op."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from slips import REPOSITORY, Slip

WORK = REPOSITORY / "build" / "mutants"
COPIED = ("csrc", "tests", "zfkernels", "benchmarks", "tools", "docs", "setup.py", "pyproject.toml", "README.md")
LIBRARY = "_C.abi3.so"
FLAGS = [
    "-std=c++20", "-O1", "-fPIC", "-fvisibility=hidden", "-DTORCH_TARGET_VERSION=0x020a000000000000",
    "-DPy_LIMITED_API=0x030a0000",
]  # fmt: skip


def make_copy(copy: Path) -> None:
    """The tree as it is, with the libraries that were built for it, so that only what a slip changes is built."""
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir(parents=True)
    ignored = shutil.ignore_patterns("__pycache__", ".hypothesis")
    for name in COPIED:
        source = REPOSITORY / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=ignored)
        elif source.exists():
            shutil.copy2(source, copy / name)
    emulator = Path("build", "simt")
    (copy / emulator / "objects").mkdir(parents=True)
    built = [*(REPOSITORY / emulator).glob("emulated-*"), *(REPOSITORY / emulator / "objects").glob("emulated-*.cpp-*")]
    for path in built:
        if path.is_file():
            shutil.copy2(path, copy / path.relative_to(REPOSITORY))


@contextlib.contextmanager
def planted(slip: Slip, copy: Path, *, build: bool) -> Iterator[None]:
    """Inside, the slip is in the copy; where it is in C++ (``build``), in its library too.

    Raises:
        RuntimeError: it does not compile.
    """
    path = copy / slip.file
    right = path.read_text()
    library = copy / "zfkernels" / LIBRARY
    whole = library.with_suffix(".whole")
    path.write_text(right.replace(slip.old, slip.new))
    try:
        if build:
            os.replace(library, whole)
            _link(copy, library, slip.op)
        yield
    finally:
        path.write_text(right)
        if whole.exists():
            os.replace(whole, library)


def _link(copy: Path, library: Path, op: str) -> None:
    """The library with the kernels of one file alone; others are missing, which no test of this op asks for."""
    import torch

    root = Path(torch.__file__).parent
    objects = WORK / "objects"
    objects.mkdir(exist_ok=True)
    include = [f"-I{root / 'include'}", f"-I{sysconfig.get_path('include')}"]

    def compiled(source: Path, target: Path) -> Path:
        _run([_compiler(), *FLAGS, *include, "-c", str(source), "-o", str(target)])
        return target

    rest = objects / "library.o"
    if not rest.exists() or rest.stat().st_mtime < (REPOSITORY / "csrc" / "library.cpp").stat().st_mtime:
        compiled(REPOSITORY / "csrc" / "library.cpp", rest)
    own = compiled(copy / "csrc" / "cpu" / f"{op}_kernel.cpp", objects / "slip.o")
    link = [f"-L{root / 'lib'}", "-ltorch_cpu", "-lc10"]
    _run([_compiler(), "-shared", str(own), str(rest), *link, "-o", str(library)])


def _compiler() -> str:
    return os.environ.get("CXX", "c++")


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")

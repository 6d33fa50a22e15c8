"""A copy of the tree in which slips are planted, and the C++ library of one op."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from slips import REPOSITORY, Slip

sys.path.append(str(REPOSITORY / "tests"))
from compiled import LIBRARY, compile_source, link_library

WORK = REPOSITORY / "build" / "mutants"
COPIED = ("csrc", "tests", "zfkernels", "benchmarks", "tools", "docs", "setup.py", "pyproject.toml", "README.md")


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
    objects = WORK / "objects"
    objects.mkdir(exist_ok=True)
    rest, source = objects / "library.o", REPOSITORY / "csrc" / "library.cpp"
    if not rest.exists() or rest.stat().st_mtime < source.stat().st_mtime:
        compile_source(source, rest)
    own = compile_source(copy / "csrc" / "cpu" / f"{op}_kernel.cpp", objects / "slip.o")
    link_library([own, rest], library)

"""The C++ library built without setup.py: not optimised for speed, one source at a time, with flags of a check."""

from __future__ import annotations

import os
import subprocess
import sysconfig
from collections.abc import Iterable
from pathlib import Path

LIBRARY = "_C.abi3.so"  # in the package
FLAGS = [
    "-std=c++20", "-O1", "-fPIC", "-fvisibility=hidden", "-DTORCH_TARGET_VERSION=0x020a000000000000",
    "-DPy_LIMITED_API=0x030A0000",
]  # fmt: skip


def compile_source(source: Path, target: Path, *flags: str) -> Path:
    """``target``, an object.

    Raises:
        RuntimeError: the compiler refuses.
    """
    include = [f"-I{_torch() / 'include'}", f"-I{sysconfig.get_path('include')}"]
    _run([_compiler(), *FLAGS, *flags, *include, "-c", str(source), "-o", str(target)])
    return target


def link_library(objects: Iterable[Path], library: Path, *flags: str) -> None:
    """``library``, as ``zfkernels._C`` is loaded."""
    torch = [f"-L{_torch() / 'lib'}", "-ltorch_cpu", "-lc10"]
    _run([_compiler(), "-shared", *flags, *map(str, objects), *torch, "-o", str(library)])


def _torch() -> Path:
    import torch

    return Path(torch.__file__).parent


def _compiler() -> str:
    return os.environ.get("CXX", "c++")


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")

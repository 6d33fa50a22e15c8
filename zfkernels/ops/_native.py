"""The extensions ``zfkernels._C`` and ``zfkernels._C_cuda``: loading them, their kernels, what they were built with."""

from __future__ import annotations

import contextlib
import importlib.util
import os
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import torch

from zfkernels import _installation

# The private namespace of the compiled kernels, whatever device they run on; they register themselves when loaded.
NATIVE = torch.library.Library("zfkernels_C", "DEF")
NATIVE.define("fix_weights(bool on) -> ()")
OLDEST_TORCH = (2, 10)


@cache
def load_native(library: str) -> str | None:
    """Loads the extension library once; returns why it cannot be loaded, or None."""
    found = _installation.libraries(library)
    if not found:
        return _installation.why_not_built(library)
    if tuple(map(int, torch.__version__.split(".")[:2])) < OLDEST_TORCH:
        return f"the extension zfkernels.{library} needs torch 2.10 or newer, got {torch.__version__}"
    if library == "_C_cuda" and torch.version.cuda is None:
        return "this torch is built without CUDA"
    try:
        if library == "_C":
            importlib.import_module("zfkernels._C")
        else:
            torch.ops.load_library(str(found[0]))
    except (ImportError, OSError) as error:
        return f"the extension zfkernels.{library} cannot be loaded: {error}"
    wanted = os.environ.get("ZFKERNELS_CPU_VARIANT")
    if library == "_C" and wanted and f"cpu_variant_in_use={wanted}\n" not in _build_info():
        return f"expected ZFKERNELS_CPU_VARIANT one that was built and that this processor runs, got {wanted!r}"
    return None


def native_kernel(library: str, name: str) -> Callable[..., Any]:
    """A function of the extension itself where torch lets it take Python's tensors (2.14 on), else the op of torch's.

    The former skips torch's conversions and dispatcher: nothing but the kernel runs, which is all that is left to do.
    """
    extension = importlib.import_module("zfkernels._C") if library == "_C" else None
    return getattr(extension, name, None) or getattr(torch.ops.zfkernels_C, name).default


def has_kernel(name: str, device: str) -> bool:
    """Whether what is loaded has a kernel of this name for ``"cpu"`` or ``"cuda"``."""
    return hasattr(torch.ops.zfkernels_C, name) and torch._C._dispatch_has_kernel_for_dispatch_key(
        f"zfkernels_C::{name}", device.upper()
    )


@contextlib.contextmanager
def fixed_weights() -> Iterator[None]:
    """Inside, the weights that this thread hands to ``window_conv2d`` must not change: ``cpp`` packs each only once.

    The copies, as large as the weights, are dropped at the end; a change in between would not be seen.
    """
    native = load_native("_C") is None
    if native:
        torch.ops.zfkernels_C.fix_weights(True)
    try:
        yield
    finally:
        if native:
            torch.ops.zfkernels_C.fix_weights(False)


def build_info() -> str | None:
    """What the extension ``_C`` was built with, or None where it is not built."""
    return _build_info() if load_native("_C") is None else None


def cpu_variants() -> list[str]:
    """The instruction sets that the C++ kernels can use here, the one in use last; none where they are not built."""
    lines = dict(line.split("=", 1) for line in (build_info() or "").splitlines())
    built, used = lines.get("cpu_variants", "").split(","), lines.get("cpu_variant_in_use")
    return built[: built.index(used) + 1] if used in built else []


def _build_info() -> str:
    return importlib.import_module("zfkernels._C").build_info()

"""The methods of the paper: each takes tensors and a model and returns a result; none opens a file or draws.

Its modules are imported when first used.
"""

from __future__ import annotations

import importlib
from types import ModuleType

_MODULES = (
    "correspondence", "deconvnet", "diagnosis", "evolution", "invariance", "layer_probe", "topk", "transfer",
)  # fmt: skip


def __getattr__(name: str) -> ModuleType:
    if name in _MODULES:
        return importlib.import_module(f"zfkernels.methods.{name}")
    raise AttributeError(f"module 'zfkernels.methods' has no attribute {name!r}")

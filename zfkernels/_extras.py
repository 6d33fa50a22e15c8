"""Optional dependencies: imported where they are used, and named with their extra where they are missing."""

from __future__ import annotations

import importlib
from types import ModuleType


def require(module: str, extra: str) -> ModuleType:
    """Imports ``module``, which ``pip install 'zfkernels[extra]'`` brings.

    Raises:
        ImportError: The module is not installed; the message names the extra.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"{module} is not installed: pip install 'zfkernels[{extra}]'") from error

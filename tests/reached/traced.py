"""A plugin of pytest that notes which lines of Triton kernels run in the interpreter; TRACED names where to.

TRITON_INTERPRET=1 TRACED=lines.json python -m pytest -p traced tests/interpreted
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from types import FrameType
from typing import Any

_seen: dict[str, set[int]] = {}


def is_kernel(file: str) -> bool:
    """Whether the file has functions that Triton compiles."""
    return "/zfkernels/ops/" in file and "triton" in Path(file).name


def _in_function(frame: FrameType, event: str, argument: Any) -> Any:
    _seen[frame.f_code.co_filename].add(frame.f_lineno)
    return _in_function


def _entered(frame: FrameType, event: str, argument: Any) -> Any:
    file = frame.f_code.co_filename
    if file not in _seen:
        if not is_kernel(file):
            return None
        _seen[file] = set()
    return _in_function


def pytest_sessionstart() -> None:
    sys.settrace(_entered)


def pytest_sessionfinish() -> None:
    sys.settrace(None)
    Path(os.environ["TRACED"]).write_text(json.dumps({file: sorted(lines) for file, lines in _seen.items()}))

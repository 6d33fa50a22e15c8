"""Tests of the Triton kernels in the interpreter: ``TRITON_INTERPRET=1 pytest tests/interpreted``.

Triton decides at its import whether it interprets or compiles; in any other process these tests are not collected.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch

collect_ignore_glob = [] if os.environ.get("TRITON_INTERPRET") == "1" else ["*"]


@pytest.fixture(autouse=True)
def _full_precision() -> Iterator[None]:
    """The reference on a CPU knows no TF32; the test that is about it switches it on."""
    before = torch.backends.cudnn.conv.fp32_precision
    torch.backends.cudnn.conv.fp32_precision = "ieee"
    yield
    torch.backends.cudnn.conv.fp32_precision = before

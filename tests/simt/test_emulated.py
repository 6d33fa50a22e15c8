"""Every CUDA kernel over the table of samples, run by the emulator, against the references.

SIMT_WAY=sanitized and SIMT_WAY=recorded run the same with other builds; test_builds.py does.
"""

from __future__ import annotations

import ctypes
from typing import Any

import pytest
import torch
from comparing import assert_bits_equal, assert_within_budget, call, selects
from emulation import DTYPES
from samples import Sample
from variants import samples

from zfkernels import ops

OPS = [name for name, entry in ops.registered().items() if "cuda" in entry.variants]


def assert_equals_reference(op: str, arguments: dict[str, Any]) -> None:
    actual = call(op, arguments, "cuda")
    if selects(op, arguments):
        assert_bits_equal(actual, call(op, arguments, "reference"))
    else:
        assert_within_budget(op, arguments, actual)


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype).removeprefix("torch."))
@pytest.mark.parametrize(("op", "sample"), samples(OPS))
def test_the_kernel_equals_the_reference(simt: ctypes.CDLL, op: str, sample: Sample, dtype: torch.dtype) -> None:
    assert_equals_reference(op, sample.arguments(dtype))

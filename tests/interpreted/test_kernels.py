"""Every Triton kernel over the table of samples, against the references, every access of memory checked."""

from __future__ import annotations

from typing import Any

import pytest
import strict
import torch
from comparing import assert_bits_equal, assert_within_budget, call, selects
from samples import Sample
from variants import skip_unless_possible, variants

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
TRITON = [parameter for parameter in variants(reference=False) if parameter.values[2] == "triton"]


def assert_right(op: str, arguments: dict[str, Any]) -> list[strict.Launch]:
    """One launch that touches its own memory alone, and whose result is the reference's; returns it."""
    torch.use_deterministic_algorithms(True, warn_only=True)  # new memory holds NaN
    try:
        with strict.watch() as launches:
            actual = call(op, arguments, "triton")
    finally:
        torch.use_deterministic_algorithms(False)
    if selects(op, arguments):
        assert_bits_equal(actual, call(op, arguments, "reference"))
    else:
        assert_within_budget(op, arguments, actual)
    return launches


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype).removeprefix("torch."))
@pytest.mark.parametrize(("op", "sample", "variant", "device"), TRITON)
def test_kernel_equals_the_reference(op: str, sample: Sample, variant: str, device: str, dtype: torch.dtype) -> None:
    arguments = sample.arguments(dtype, device)
    skip_unless_possible(op, variant, arguments)
    launches = assert_right(op, arguments)
    assert len(launches) <= 1  # none where there is nothing to compute

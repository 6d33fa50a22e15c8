"""Every Triton kernel over the table of samples, against the references, every access of memory checked.

The interpreter takes tens of microseconds for an operation. So each sample runs in one dtype, in turn, and the plain
one in all of them, and those of many operations not at all; ZFKERNELS_INTERPRET=all runs every sample in every dtype.
"""

from __future__ import annotations

import itertools
import os
import sys
from typing import Any

import pytest
import torch
from support import strict
from support.comparing import assert_bits_equal, assert_rounded_once, assert_within_budget, call, selects
from support.samples import SAMPLES, Sample
from support.variants import flat_arguments, skip_unless_possible, variants

from zfkernels import ops
from zfkernels.ops import _triton_launch

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
EVERY = os.environ.get("ZFKERNELS_INTERPRET") == "all"


def in_turn() -> list[Any]:
    """Parameters (op, sample, dtype)."""
    found = []
    triton = [p for p in variants(reference=False) if p.values[2] == "triton"]
    for parameter, turn in zip(triton, itertools.cycle(range(3)), strict=False):
        op, sample, *_ = parameter.values
        if (sample.large or sample.name == "256 cells") and not EVERY:
            continue
        for index, dtype in enumerate(DTYPES):
            if EVERY or index == turn or sample.name == "contiguous":
                name = str(dtype).removeprefix("torch.")
                found.append(pytest.param(op, sample, dtype, id=f"{parameter.id}-{name}"))
    return found


def assert_right(op: str, arguments: dict[str, Any]) -> list[strict.Launch]:
    """The result is the reference's, and the launches touch their own memory alone; returns them."""
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
        assert_rounded_once(op, arguments, actual)
    return launches


@pytest.mark.parametrize(("op", "sample", "dtype"), in_turn())
def test_kernel_equals_the_reference(op: str, sample: Sample, dtype: torch.dtype) -> None:
    arguments = sample.arguments(dtype)
    skip_unless_possible(op, "triton", arguments)
    sources = len(arguments.get("sources", ()))
    most = max(-(-(sources - 1) // 2), 1)  # three sources in the first launch, two in each more
    assert len(assert_right(op, arguments)) <= most  # none where there is nothing to compute


def test_an_infinite_value_stays_in_the_blocks_of_stride_outputs_that_its_filter_reaches() -> None:
    values = torch.ones(1, 2, 6, 6)
    values[0, 0, 2, 3] = torch.inf
    arguments = {"values": values, "switches": None, "weight": torch.ones(2, 3, 3, 3), "stride": 2, "padding": 1}
    expected, actual = (call("unpool_relu_conv_transpose2d", arguments, b)[0] for b in ("reference", "triton"))
    reached = (slice(None), slice(None), slice(3, 6), slice(5, 8))  # from 2 y - 1 on, 3 of them
    block = torch.zeros_like(actual, dtype=torch.bool)
    block[:, :, 3:7, 5:9] = True
    assert_bits_equal([actual[reached], actual[~block]], [expected[reached], expected[~block]])


OPS = [op for op, entry in ops.registered().items() if "triton" in entry.variants]


@pytest.mark.parametrize("op", OPS)
def test_wide_indices_give_the_same_numbers(op: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Indices of 64 bits, as tensors of 2^31 elements need them, on a small one."""
    import triton.language as tl

    module = sys.modules[ops.registered()[op].variants["triton"].load().__module__]
    monkeypatch.setattr(module, "index_type", lambda *tensors: tl.int64)
    assert_right(op, SAMPLES[op][0].arguments(torch.float32))


def test_indices_are_wide_where_they_have_to_be() -> None:
    import triton.language as tl

    small, large = torch.empty(2**31 - 1, device="meta"), torch.empty(2, 2**30 + 1, device="meta")
    assert _triton_launch.index_type(small, None) == tl.int32
    assert _triton_launch.index_type(small, large) == tl.int64


@pytest.mark.parametrize("op", OPS)
def test_opcheck(op: str) -> None:
    flat = flat_arguments(op, SAMPLES[op][0].arguments(torch.float32))
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    registered = getattr(torch.ops.zfkernels, op).default
    torch.library.opcheck(registered, flat, {"backend": "triton"}, test_utils=checks)


def test_tf32_is_used_where_pytorch_uses_it() -> None:
    arguments = next(s for s in SAMPLES["window_conv2d"] if s.name == "1x1").arguments(torch.float32)
    exact = call("window_conv2d", arguments, "triton")[0]
    torch.backends.cudnn.conv.fp32_precision = "tf32"
    with strict.watch():
        rounded = call("window_conv2d", arguments, "triton")[0]
    assert not torch.equal(rounded, exact)
    torch.testing.assert_close(rounded, exact, rtol=1e-2, atol=1e-2)

"""Every CUDA kernel over the table of samples, run by the emulator, against the references.

SIMT_WAY=sanitized and SIMT_WAY=recorded run the smaller samples with the other builds; test_builds.py does.
"""

from __future__ import annotations

import ctypes
from typing import Any

import pytest
import torch
from emulation import DTYPES, FAST, WAY, become, record
from support.comparing import assert_bits_equal, assert_rounded_once, assert_within_budget, call, roundings, selects
from support.samples import Sample
from support.variants import samples

from zfkernels import ops

OPS = [name for name, entry in ops.registered().items() if "cuda" in entry.variants]
# The ops that have a kernel for tensor cores.
PRODUCTS = [
    "unpool_relu_conv_transpose2d",
    "window_conv2d",
    "window_unpool_relu_conv_transpose2d",
]


def smaller_half(parameters: list[Any]) -> list[Any]:
    """Every second of the smaller samples of each op; all of them where the build is fast."""
    return parameters if FAST else parameters[::2]


def assert_equals_reference(simt: ctypes.CDLL, op: str, arguments: dict[str, Any]) -> None:
    actual: list[torch.Tensor] = []
    try:
        if WAY == "recorded":
            faults = record(simt, lambda: actual.extend(call(op, arguments, "cuda")))["faults"]
            assert faults == {}
        else:
            actual = call(op, arguments, "cuda")
    except ops.BackendError as refusal:
        pytest.skip(str(refusal))
    if selects(op, arguments):
        assert_bits_equal(actual, call(op, arguments, "reference"))
    else:
        assert_within_budget(op, arguments, actual)
        assert_rounded_once(op, arguments, actual)


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype).removeprefix("torch."))
@pytest.mark.parametrize(("op", "sample"), smaller_half(samples(OPS, large=FAST)))
def test_the_kernel_equals_the_reference(simt: ctypes.CDLL, op: str, sample: Sample, dtype: torch.dtype) -> None:
    if sample.large and dtype == torch.bfloat16:
        pytest.skip("large samples take minutes; both types of 16 bits have the same tiles")
    assert_equals_reference(simt, op, sample.arguments(dtype))


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype).removeprefix("torch."))
@pytest.mark.parametrize(("op", "sample"), smaller_half(samples(PRODUCTS, large=False)))
def test_the_tensor_cores_equal_the_reference(simt: ctypes.CDLL, op: str, sample: Sample, dtype: torch.dtype) -> None:
    """The samples have few outputs, which the kernels without tensor cores would take."""
    become(simt, least_matrix_outputs=1)
    assert_equals_reference(simt, op, sample.arguments(dtype))


@pytest.mark.parametrize(
    ("op", "sample"), smaller_half(samples(PRODUCTS, names={"groups", "odd size", "overlapping last"}))
)
def test_an_old_device_does_without_tensor_cores(simt: ctypes.CDLL, op: str, sample: Sample) -> None:
    become(simt, "sm_75", least_matrix_outputs=1)
    assert_equals_reference(simt, op, sample.arguments(torch.float32))


@pytest.mark.parametrize(("op", "sample"), samples(OPS, names={"contiguous"}))
def test_the_order_of_threads_does_not_matter(simt: ctypes.CDLL, op: str, sample: Sample) -> None:
    arguments = sample.arguments(torch.float32)
    simt.simt_seed(0)
    first = call(op, arguments, "cuda")
    for seed in (2, 3):
        simt.simt_seed(seed)
        assert_bits_equal(call(op, arguments, "cuda"), first)


@pytest.mark.parametrize("dtype", DTYPES[1:], ids=lambda dtype: str(dtype).removeprefix("torch."))
def test_sums_kept_in_16_bits_are_found(dtype: torch.dtype) -> None:
    """Of nine terms, as a 3 x 3 filter of one channel has them."""
    terms = torch.randn(9, 2000, generator=torch.Generator().manual_seed(0)).to(dtype)
    total = torch.zeros(2000, dtype=dtype)
    for term in terms:
        total += term
    truth = terms.double().sum(0)
    assert roundings(dtype, truth.to(dtype), truth) < 1.1
    assert roundings(dtype, total, truth) > 1.5

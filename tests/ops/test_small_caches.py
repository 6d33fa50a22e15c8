"""The C++ kernels cut large tensors up for the caches: with smaller ones small tensors go the same ways."""

from __future__ import annotations

import pytest
import torch
from support.samples import Sample
from support.variants import samples, skip_unless_possible
from test_variants import assert_equals_reference

from zfkernels import ops

OPS = [op for op, entry in ops.registered().items() if "cpp" in entry.variants]
NAMES = {
    "contiguous", "channels_last", "found", "whole frames", "groups", "depthwise", "11x11", "odd size", "without bias",
    "two sources", "padding ceil", "hanging over", "many outputs", "masked image", "blocks", "blocks of outputs",
    "blocks of 3x2 taps", "blocks of rows", "blocks of channels and of outputs",
}  # fmt: skip


@pytest.mark.parametrize("most", [1, 3000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize(("op", "sample"), samples(OPS, NAMES))
def test_cpp_with_small_caches(
    op: str, sample: Sample, dtype: torch.dtype, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZFKERNELS_CPU_CACHE", str(most))  # bytes
    arguments = sample.arguments(dtype)
    skip_unless_possible(op, "cpp", arguments)
    threads = torch.get_num_threads()
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            assert_equals_reference(op, arguments, "cpp")
    finally:
        torch.set_num_threads(threads)

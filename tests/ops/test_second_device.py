"""Tensors of a GPU that is not the current one, on a stream that is not the default one: where there are two GPUs."""

from __future__ import annotations

import pytest
import torch
from support.samples import SAMPLES
from support.variants import skip_unless_possible
from test_variants import assert_equals_reference

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available() or torch.cuda.device_count() < 2, reason="needs two GPUs; mocked for one or none"
)


@pytest.mark.parametrize("variant", ["cuda", "triton"])
@pytest.mark.parametrize("op", SAMPLES)
def test_kernels_run_where_their_tensors_are(op: str, variant: str) -> None:
    arguments = SAMPLES[op][0].arguments(torch.float32, "cuda:1")
    skip_unless_possible(op, variant, arguments)
    torch.cuda.synchronize("cuda:1")
    with torch.cuda.device(1):
        stream = torch.cuda.Stream()
    torch.cuda.set_device(0)
    with torch.cuda.stream(stream), torch.cuda.device(0):
        assert_equals_reference(op, arguments, variant)
        assert torch.cuda.current_device() == 0

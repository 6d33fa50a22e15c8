"""The CUDA library as it was built: it loads with or without a GPU, and says in one sentence what is missing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from zfkernels import ops
from zfkernels.ops._native import load_native

OPS = [name for name, entry in ops.registered().items() if "cuda" in entry.variants]


@pytest.fixture(autouse=True)
def _built(require: Callable[[str, object, str], None]) -> None:
    problem = load_native("_C_cuda")
    require("nvcc", problem is None or "is not built" not in problem, str(problem))
    assert problem is None


@pytest.mark.parametrize("op", OPS)
def test_every_op_has_its_kernel(op: str) -> None:
    assert torch._C._dispatch_has_kernel_for_dispatch_key(f"zfkernels_C::{op}", "CUDA")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("op", OPS)
def test_without_a_gpu_one_sentence_says_so(op: str) -> None:
    arguments = len(getattr(torch.ops.zfkernels, op).default._schema.arguments) - 1  # the last one is the backend
    with pytest.raises(ops.BackendError) as caught:
        ops.registered()[op].route(torch.zeros(1, 1, 2, 2), *[None] * (arguments - 1), backend="cuda")
    assert str(caught.value).startswith(
        f"{op}: backend 'cuda' cannot run: torch finds no NVIDIA GPU with a driver; choices here: ["
    )

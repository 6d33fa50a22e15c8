"""The CUDA kernels as the variant "cuda" of every op, on CPU tensors: the emulator runs them."""

from __future__ import annotations

import ctypes
import dataclasses
import os
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import torch

sys.path[:0] = [str(Path(__file__).parent.parent), str(Path(__file__).parent)]

import build  # noqa: E402

from zfkernels import ops  # noqa: E402
from zfkernels.ops._library import _takes, load_native  # noqa: E402

WAY = os.environ.get("SIMT_WAY", "plain")
DTYPES = (torch.float32, torch.float16, torch.bfloat16)


@cache
def emulator(way: str) -> ctypes.CDLL:
    """Loads the emulated kernels: ``torch.ops.zfkernels_simt``, with the schemas of ``zfkernels_C``."""
    problem = load_native("_C")
    if problem is not None:
        pytest.skip(problem)  # the schemas are there
    if build.compiler() is None:
        pytest.skip("no C++ compiler was found")
    path = build.emulated(way)
    emulator.library = torch.library.Library("zfkernels_simt", "DEF")  # keeps the definitions alive
    for name in ops.registered():
        schema = str(getattr(torch.ops.zfkernels_C, name).default._schema)
        emulator.library.define(schema.removeprefix("zfkernels_C::"))
    torch.ops.load_library(str(path))
    loaded = ctypes.CDLL(str(path))
    if way == "recorded":
        loaded.simt_record_end.restype = ctypes.c_char_p
    return loaded


def has_kernel(op: str) -> bool:
    return torch._C._dispatch_has_kernel_for_dispatch_key(f"zfkernels_simt::{op}", "CPU")


@pytest.fixture(scope="session")
def simt() -> ctypes.CDLL:
    return emulator(WAY)


@pytest.fixture(autouse=True)
def _emulated_cuda(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """backend="cuda" runs the emulated kernels, in the order of threads that the seed gives."""
    if "simt" in request.fixturenames:
        loaded = request.getfixturevalue("simt")
        for name, entry in ops.registered().items():
            variant = entry.variants.get("cuda")
            if variant is not None:
                kernel = getattr(torch.ops.zfkernels_simt, name).default
                emulated = dataclasses.replace(
                    variant,
                    load=lambda kernel=kernel: kernel,
                    missing=lambda: None,
                    refuses=_takes({"cpu"}, DTYPES, None),
                )
                monkeypatch.setitem(entry.variants, "cuda", emulated)
        loaded.simt_seed(1)
        loaded.simt_device(9)
    yield

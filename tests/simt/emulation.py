"""Loads the emulated kernels and talks to them."""

from __future__ import annotations

import ctypes
import dataclasses
import json
import os
from functools import cache
from typing import Any

import compilation
import pytest
import torch
from gpu_code.gpus import MULTIPROCESSORS
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils import _pytree as pytree

from zfkernels import ops
from zfkernels.ops._registry import Variant

WAY = os.environ.get("SIMT_WAY", "plain")  # how the emulator is built
FAST = WAY in ("plain", "covered")  # the other builds take too long for all samples
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
_libraries: list[torch.library.Library] = []  # a definition lives as long as its library


@cache
def emulator(way: str) -> ctypes.CDLL:
    """Loads the emulated kernels, ``torch.ops.zfkernels_simt``, with the schemas of ``zfkernels_C``; one way only."""
    if compilation.compiler() is None:
        pytest.skip("no C++ compiler was found")
    path = compilation.emulated(way)
    library = torch.library.Library("zfkernels_simt", "DEF")
    for name, entry in ops.registered().items():
        if "cuda" not in entry.variants:
            continue
        schema = str(getattr(torch.ops.zfkernels_C, name).default._schema)
        library.define(schema.removeprefix("zfkernels_C::"))
    _libraries.append(library)
    torch.ops.load_library(str(path))
    loaded = ctypes.CDLL(str(path))
    if way == "recorded":
        loaded.simt_record_end.restype = ctypes.c_char_p
    return loaded


def emulated(op: str) -> Variant:
    """The variant "cuda" of an op, but that the emulator runs its kernels, on CPU tensors."""
    kernel = getattr(torch.ops.zfkernels_simt, op).default
    variant = _variant(op)

    def refuses(*args: Any) -> str | None:
        with FakeTensorMode():  # the same tensors on a GPU
            on_gpu = pytree.tree_map_only(
                torch.Tensor, lambda t: torch.empty(t.shape, dtype=t.dtype, device="cuda"), args
            )
        return variant.refuses(*on_gpu)

    load = lambda: ops.registered()[op].encoded(kernel)  # noqa: E731
    return dataclasses.replace(variant, load=load, missing=lambda: None, refuses=refuses)


@cache
def _variant(op: str) -> Variant:
    """The variant "cuda" of an op as it is for GPUs."""
    return ops.registered()[op].variants["cuda"]


def become(simt: ctypes.CDLL, arch: str = "sm_90", least_matrix_outputs: int = 16) -> None:
    """Emulates a device of ``arch``; ops with fewer outputs leave the tensor cores to others."""
    shared = ctypes.c_size_t(MULTIPROCESSORS[arch].shared_of_block)
    simt.simt_device(int(arch.removeprefix("sm_")) // 10, least_matrix_outputs, shared)


def record(simt: ctypes.CDLL, run: Any, blocks: int = 0) -> dict[str, Any]:
    """What ``run()`` did to memory; see record.h. ``blocks``: of each launch, a sample without a look at races."""
    simt.simt_sample(ctypes.c_int64(blocks))
    simt.simt_record_begin(blocks == 0)
    try:
        run()
    finally:
        text = simt.simt_record_end()
        simt.simt_sample(ctypes.c_int64(0))
    return json.loads(text)

"""The C++ kernels as functions of the extension, past torch's dispatcher."""

from __future__ import annotations

import gc
import importlib
import sys
import weakref
from typing import Any

import pytest
import torch
from support.comparing import assert_bits_equal
from support.samples import SAMPLES
from support.variants import flat_arguments

from zfkernels.ops import _native, _registry

pytestmark = pytest.mark.cpp

POOL = "max_pool2d_with_switches"


@pytest.fixture
def extension() -> Any:
    problem = _native.load_native("_C")
    if problem is not None:
        pytest.skip(problem)
    if sys.platform != "linux" or torch.__version__ < (2, 14):
        pytest.skip(f"torch {torch.__version__} on {sys.platform} does not let an extension take Python's tensors")
    return importlib.import_module("zfkernels._C")


COMPILED = sorted(op for op, entry in _registry.registered().items() if "cpp" in entry.variants)


@pytest.mark.parametrize("op", COMPILED)
def test_a_kernel_gives_the_same_by_way_of_torch(op: str, extension: Any) -> None:
    """The way that is left where torch is too old for the extension's functions."""
    direct, by_torch = getattr(extension, op), getattr(torch.ops.zfkernels_C, op).default
    entry = _registry.registered()[op]
    args = flat_arguments(op, SAMPLES[op][0].arguments(torch.float32))
    results, expected = entry.encoded(direct)(*args), entry.encoded(by_torch)(*args)
    assert type(results) is type(expected)
    if isinstance(results, torch.Tensor):
        results, expected = (results,), (expected,)
    assert_bits_equal(results, expected)


def test_the_dispatcher_is_asked_where_the_extension_has_no_functions(
    extension: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_torch = getattr(torch.ops.zfkernels_C, POOL).default
    assert _native.native_kernel("_C_cuda", POOL) is by_torch
    assert _native.native_kernel("_C", POOL) is not by_torch
    monkeypatch.delattr(extension, POOL)
    assert _native.native_kernel("_C", POOL) is by_torch


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({0: torch.ones(1, 1, 4, 4, device="meta")}, RuntimeError, "expected a tensor on the CPU"),
        ({0: None}, TypeError, "expected a tensor"),
        ({1: 2}, TypeError, "object of type 'int' has no len"),
        ({1: (2, "a")}, TypeError, "'str' object"),
        ({1: (2,)}, RuntimeError, "expected pairs of ints"),
        ({1: (2, 2**70)}, OverflowError, "int too big"),
        ({5: "no"}, TypeError, "'str' object"),
        ({6: 1}, TypeError, "expected 6 arguments, got 7"),
    ],
)
def test_a_kernel_refuses_other_arguments(
    changes: dict[int, Any], error: type[Exception], message: str, extension: Any
) -> None:
    args = dict(enumerate((torch.ones(1, 1, 4, 4), (2, 2), (2, 2), (0, 0), (1, 1), False)))
    with pytest.raises(error, match=message):
        getattr(extension, POOL)(*(args | changes).values())


@pytest.mark.parametrize("op", sorted(_registry.registered()))
def test_no_text_reaches_a_kernel_or_leaves_it(op: str) -> None:
    """Headers of torch before 2.14 never free a text; the schemas are those that every kernel of the op has."""
    if (problem := _native.load_native("_C")) is not None:
        pytest.skip(problem)
    assert "str " not in str(getattr(torch.ops.zfkernels_C, op).default._schema)
    assert not hasattr(torch.ops.zfkernels_C, "build_info")


def test_the_extensions_functions_are_the_ones_that_run(extension: Any) -> None:
    assert _registry.registered()[POOL].variants["cpp"].load() is getattr(extension, POOL)


def test_nothing_is_kept_of_a_call(extension: Any) -> None:
    maps = torch.ones(1, 1, 4, 4)
    geometry = ((2, 2), (2, 2), (0, 0), (1, 1), False)
    values, switches = getattr(extension, POOL)(maps, *geometry)
    with pytest.raises(RuntimeError):
        getattr(extension, POOL)(maps, (2,), *geometry[1:])
    alive = [weakref.ref(tensor) for tensor in (maps, values, switches)]
    del maps, values, switches
    gc.collect()
    assert [each() for each in alive] == [None] * 3

"""Every variant of every op over the table of samples: against the reference, and the reference against scalar loops.

pytest tests/ops -k cpp                         all that is known of one variant
TRITON_INTERPRET=1 pytest tests/ops -k triton   the Triton variants without a GPU
pytest tests/ops -k "cpp and window_conv2d"     one op of it
"""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from support import oracle, window_oracle
from support.comparing import assert_bits_equal, assert_within_budget, call, exact, magnitude, public, rounding, selects
from support.maker import LAYOUTS, laid_out
from support.samples import DTYPES, SAMPLES, Sample
from support.variants import samples, skip_unless_possible, variants
from torch.utils import _pytree as pytree

from zfkernels import ops
from zfkernels.windows import Windows

# Share of the sum of the absolute terms that rounding may take; float64 is the yardstick itself.
ROUNDING = {torch.float32: 1e-5, torch.float16: 4e-3, torch.bfloat16: 2e-2}


def dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def test_every_op_has_samples() -> None:
    assert set(SAMPLES) == set(ops.registered())


@pytest.mark.parametrize(("op", "sample"), samples(large=False))
def test_reference_equals_the_scalar_loop(op: str, sample: Sample) -> None:
    arguments = sample.arguments(torch.float64)
    result = public(op)(**arguments, backend="reference")
    loops: Any = window_oracle if hasattr(window_oracle, op) else oracle
    expected = getattr(loops, op)(**arguments)
    if isinstance(result, Windows):
        result, expected = result.values, loops.crops(expected, result)
    if isinstance(result, tuple):
        assert_bits_equal(list(result), list(expected))
    elif selects(op, arguments):
        assert_bits_equal([result], [expected])
    else:
        torch.testing.assert_close(result, expected, rtol=1e-10, atol=1e-10, equal_nan=True)


@pytest.mark.parametrize("dtype", list(ROUNDING), ids=dtype_name)
@pytest.mark.parametrize(("op", "sample"), samples())
def test_reference_rounds_as_its_dtype(op: str, sample: Sample, dtype: torch.dtype) -> None:
    arguments = sample.arguments(dtype)
    actual, truths = call(op, arguments, "reference"), exact(op, arguments)
    if selects(op, arguments):
        assert_bits_equal(actual, [t.to(a.dtype) for a, t in zip(actual, truths, strict=True)])
        return
    for a, truth, size in zip(actual, truths, magnitude(op, arguments), strict=True):
        finite = truth.isfinite()
        torch.testing.assert_close(a[~finite].double(), truth[~finite].double(), rtol=0, atol=0, equal_nan=True)
        assert ((a - truth).abs()[finite] <= (ROUNDING[dtype] * size + rounding(dtype, size))[finite]).all()


def assert_equals_reference(op: str, arguments: dict[str, Any], variant: str) -> None:
    actual = call(op, arguments, variant)
    if selects(op, arguments):
        assert_bits_equal(actual, call(op, arguments, "reference"))
    else:
        assert_within_budget(op, arguments, actual)


@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_name)
@pytest.mark.parametrize(("op", "sample", "variant", "device"), variants(reference=False))
def test_variant_equals_the_reference(op: str, sample: Sample, variant: str, device: str, dtype: torch.dtype) -> None:
    arguments = sample.arguments(dtype, device)
    skip_unless_possible(op, variant, arguments)
    assert_equals_reference(op, arguments, variant)


FILTERED = [op for op in SAMPLES if "weight" in SAMPLES[op][0].arguments(torch.float32)]
KINDS_OF_BLOCKS = {"contiguous", "blocks of outputs", "blocks of channels and of outputs", "many outputs"}


@pytest.mark.parametrize("layout", LAYOUTS[1:])
@pytest.mark.parametrize(("op", "sample", "variant", "device"), variants(FILTERED, KINDS_OF_BLOCKS, reference=False))
def test_weights_may_lie_otherwise_in_memory(op: str, sample: Sample, variant: str, device: str, layout: str) -> None:
    arguments = sample.arguments(torch.float32, device)
    arguments["weight"] = laid_out(arguments["weight"], layout)
    skip_unless_possible(op, variant, arguments)
    assert_equals_reference(op, arguments, variant)


@pytest.mark.parametrize(("op", "sample", "variant", "device"), variants(reference=True))
def test_results_do_not_depend_on_memory_or_threads(op: str, sample: Sample, variant: str, device: str) -> None:
    """Two runs are equal to the bit, the second in memory filled with NaN; the arguments stay as they are.

    C++ kernels run on one thread, then on three; PyTorch itself does not promise that.
    """
    arguments = sample.arguments(torch.float32, device)
    skip_unless_possible(op, variant, arguments)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1 if variant == "cpp" else threads)
        first = call(op, arguments, variant)
        torch.set_num_threads(3 if variant == "cpp" else threads)
        torch.use_deterministic_algorithms(True, warn_only=True)
        second = call(op, arguments, variant)
    finally:
        torch.use_deterministic_algorithms(False)
        torch.set_num_threads(threads)
    assert_bits_equal(second, first)
    assert_bits_equal(leaves(arguments), leaves(sample.arguments(torch.float32, device)))


def leaves(arguments: dict[str, Any]) -> list[torch.Tensor]:
    return [leaf for leaf in pytree.tree_leaves(arguments) if isinstance(leaf, torch.Tensor)]


@pytest.mark.parametrize(("op", "sample"), samples(names={"contiguous"}))
@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_name)
def test_a_wrong_variant_is_found(op: str, sample: Sample, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison above can fail: one number off by a few roundings is enough."""
    entry = ops.registered()[op]
    right = entry.variants["reference"].load()

    def wrong(*args: Any) -> Any:
        result = right(*args)
        values = result[0] if isinstance(result, tuple) else result
        values[(-1, -1, 0, 0)[: values.dim()]] += 64 * torch.finfo(dtype).eps * values.abs().amax()
        return result

    planted = dataclasses.replace(entry.variants["reference"], name="cpp", load=lambda: wrong)
    monkeypatch.setitem(entry.variants, "cpp", planted)
    arguments = sample.arguments(dtype)
    assert_equals_reference(op, arguments, "reference")
    with pytest.raises(AssertionError):
        assert_equals_reference(op, arguments, "cpp")

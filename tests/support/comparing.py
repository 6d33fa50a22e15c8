"""How close two results of an op have to be, derived from the arithmetic and not chosen."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from zfkernels import ops

# Copies and selections have no rounding: their results are equal to the bit. Sums of overlapping values do.
SELECTIONS = {
    "max_pool2d_with_switches", "max_unpool2d_with_switches", "window_max_pool2d", "window_gather",
}  # fmt: skip


# Public functions that take more than one registered op has.
PUBLIC = {"window_unpool_relu_conv_transpose2d": "unpool_relu_conv_transpose2d"}


def selects(op: str, arguments: dict[str, Any]) -> bool:
    return (op in SELECTIONS and arguments.get("overlap") != "sum") or arguments.get("how") == "max"


def public(op: str) -> Callable[..., Any]:
    """The public function of a registered op."""
    return getattr(ops, PUBLIC.get(op, op))


def call(op: str, arguments: dict[str, Any], backend: str | None = None) -> list[Tensor]:
    """All tensors that the op returns: for windows, the values, boxes, offsets and images."""
    return pytree.tree_leaves(public(op)(**arguments, backend=backend))


def converted(arguments: dict[str, Any], function: Any) -> dict[str, Any]:
    """``function`` of every floating tensor among the arguments, in their place."""
    return pytree.tree_map_only(Tensor, lambda t: function(t) if t.is_floating_point() else t, arguments)


def exact(op: str, arguments: dict[str, Any]) -> list[Tensor]:
    """The reference on the same numbers in float64."""
    return call(op, converted(arguments, Tensor.double), "reference")


def magnitude(op: str, arguments: dict[str, Any]) -> list[Tensor]:
    """The sum of the absolute values of all terms of each number of the result: what rounding errors scale with."""
    arguments = converted(arguments, lambda t: t.double().abs().nan_to_num(0, 0, 0))
    if isinstance(arguments.get("fill"), float):
        arguments["fill"] = abs(arguments["fill"])
    return call(op, arguments, "reference")


def terms(op: str, arguments: dict[str, Any]) -> list[Tensor]:
    """How many terms each number of the result is the sum of, at most: the sum over ones."""
    arguments = converted(arguments, lambda t: torch.ones_like(t, dtype=torch.float64))
    if isinstance(arguments.get("fill"), float):
        arguments["fill"] = 1.0
    return call(op, arguments, "reference")


def assert_bits_equal(actual: list[Tensor], expected: list[Tensor]) -> None:
    """The same dtypes, shapes and numbers; one NaN is as good as another."""
    for a, e in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, e, rtol=0, atol=0, equal_nan=True)


def rounding(dtype: torch.dtype, size: Tensor) -> Tensor:
    """The band of one rounding of numbers that are sums of terms of this size, below the normal numbers too."""
    info = torch.finfo(dtype)
    return info.eps * size + info.eps * info.smallest_normal


def assert_within_budget(op: str, arguments: dict[str, Any], actual: list[Tensor]) -> None:
    """No further from float64 than rounding takes a sum, and without NaN or infinity where the reference has none.

    A sum of K terms is rounded K times in the type that it is kept in: float32 at the least. Errors of either sign add
    up like sqrt(K); one rounding to the result's type comes on top.
    """
    truths, references = exact(op, arguments), call(op, arguments, "reference")
    sizes, lengths = magnitude(op, arguments), terms(op, arguments)
    for a, truth, size, length, reference in zip(actual, truths, sizes, lengths, references, strict=True):
        assert (a.shape, a.dtype) == (reference.shape, reference.dtype)
        if not a.is_floating_point():
            assert torch.equal(a, reference)
            continue
        finite = truth.isfinite() & reference.isfinite()
        torch.testing.assert_close(a[~finite], reference[~finite], rtol=0, atol=0, equal_nan=True)
        kept = torch.promote_types(a.dtype, torch.float32)
        budget = 4 * rounding(a.dtype, size) + length.sqrt() / 2 * rounding(kept, size)
        wrong = finite & ~((a.double() - truth).abs() <= budget)
        assert not wrong.any(), (
            f"{op}: {int(wrong.sum())} of {wrong.numel()} numbers are outside the budget, the first at "
            f"{wrong.nonzero()[0].tolist()}: {a[wrong][0]} for {truth[wrong][0]} ± {budget[wrong][0]:.1e}"
        )


def roundings(dtype: torch.dtype, actual: Tensor, truth: Tensor) -> float:
    """The root mean square of the errors, each in units of what one rounding of its number to ``dtype`` costs.

    That is 1 / sqrt(12) of the distance between neighbouring numbers of the type. Numbers below the root mean square of
    all are taken for as large as that: their terms are.
    """
    info = torch.finfo(dtype)
    size = truth.abs().clamp(min=max(truth.square().mean().sqrt().item(), info.smallest_normal))
    one = torch.exp2(size.log2().floor()) * info.eps / math.sqrt(12)
    return ((actual.double() - truth) / one).square().mean().sqrt().item()


def assert_rounded_once(op: str, arguments: dict[str, Any], actual: list[Tensor], most: float = 1.5) -> None:
    """Results in 16 bits cost about one rounding: sums kept in 16 bits do not pass, however short they are.

    Over all numbers together, where there are a hundred and more that are finite and not zero.
    """
    for a, truth in zip(actual, exact(op, arguments), strict=True):
        if not a.is_floating_point() or torch.finfo(a.dtype).bits > 16:
            continue
        known = truth.isfinite() & (truth.abs() <= torch.finfo(a.dtype).max) & (truth != 0)
        if int(known.sum()) >= 100:
            found = roundings(a.dtype, a[known], truth[known])
            assert found <= most, f"{op}: errors of {found:.2f} roundings, expected at most {most}"


def assert_refused(function: Callable[..., Any], arguments: dict[str, Any], error: type, message: str) -> None:
    """The call raises ``error`` with ``<function>: expected <message>``, word for word."""
    with pytest.raises(error) as caught:
        function(**arguments)
    assert str(caught.value) == f"{function.__name__}: expected {message}"

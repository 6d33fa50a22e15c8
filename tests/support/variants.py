"""Parameters of the tests from the table of variants that the ops announce: a new variant is tested from then on."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from support.comparing import public
from support.samples import SAMPLES
from zfkernels import ops


def devices(variant: str) -> list[str]:
    """Where the tests run a variant: Triton kernels on the CPU only if there is no other way (interpreted)."""
    cuda = torch.cuda.is_available()
    if variant == "reference":
        return ["cpu", "cuda"] if cuda else ["cpu"]
    return ["cuda" if variant == "cuda" or (variant == "triton" and cuda) else "cpu"]


def samples(
    of: Collection[str] = tuple(SAMPLES), names: Collection[str] | None = None, *, large: bool = True
) -> list[Any]:
    """Parameters (op, sample) of some ops: the samples of these names (None: all), with or without the large ones."""
    return [
        pytest.param(op, sample, id=f"{op}-{sample.name.replace(' ', '_')}")
        for op in of
        for sample in SAMPLES[op]
        if (names is None or sample.name in names) and (large or not sample.large)
    ]


def variants(*selection: Any, reference: bool, large: bool = True) -> list[Any]:
    """Parameters (op, sample, variant, device) of all variants of :func:`samples`, the reference among them or not.

    A variant that cannot run on this machine is one skipped test for each op.
    """
    found: list[Any] = []
    skipped: dict[str, Any] = {}
    for parameter in samples(*selection, large=large):
        op = parameter.values[0]
        entry = ops.registered()[op]
        for variant in entry.variants:
            if variant == "reference" and not reference:
                continue
            reason = entry.why_not(variant)
            if reason is not None:
                mark = pytest.mark.skip(reason)
                skipped[f"{op}-{variant}"] = pytest.param(op, None, variant, None, id=f"{op}-{variant}", marks=mark)
                continue
            for device in devices(variant):
                found.append(pytest.param(*parameter.values, variant, device, id=f"{parameter.id}-{variant}-{device}"))
    return [*found, *skipped.values()]


def flat_arguments(op: str, arguments: dict[str, Any]) -> tuple[Any, ...]:
    """What the public function hands to the registered op, ``torch.ops.zfkernels.<op>``."""
    recorded: list[tuple[Any, ...]] = []

    class Record(TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if function is getattr(torch.ops.zfkernels, op).default:
                recorded.append(args)
            return function(*args, **(kwargs or {}))

    with Record():
        public(op)(**arguments, backend="reference")
    return recorded[0]


def skip_unless_possible(op: str, variant: str, arguments: dict[str, Any]) -> None:
    """Skips a test with the reason that the variant gives for refusing these arguments."""
    reason = ops.registered()[op].why_not(variant, flat_arguments(op, arguments))
    if reason is not None:
        pytest.skip(reason)

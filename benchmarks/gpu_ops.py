"""The variants of the ops on headline shapes: checked against the reference, then timed against PyTorch's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from gpu_clock import seconds
from gpu_code.arguments import numbers
from gpu_code.cases import Case
from gpu_code.window_cases import WindowCase
from gpu_journal import Journal
from torch import Tensor

from zfkernels.geometry import Sliding
from zfkernels.ops import registered


def unfused(case: Case, flat: tuple[Any, ...]) -> Callable[[], Any]:
    """What a user of PyTorch would write: its own functions for whole maps, the reference for windows."""
    reference = registered()[case.op].variants["reference"].load()
    if case.op != "unpool_relu_conv_transpose2d":
        return lambda: reference(*flat)
    from zfkernels.ops import switches_to_indices

    values, switches, weight, *_ = flat
    kernel, stride, padding, dilation, unpooled = flat[3:8]
    indices = switches_to_indices(switches, kernel, stride, padding, dilation, input_size=unpooled)
    indices = indices.clamp(0, unpooled[0] * unpooled[1] - 1)
    conv = Sliding(tuple(weight.shape[2:]), *flat[8:11])
    rest = [flat[12][axis] + 2 * conv.padding[axis] - conv.span(unpooled)[axis] for axis in (0, 1)]

    def chain() -> Tensor:
        spread = F.max_unpool2d(values, indices, kernel, stride, padding, unpooled).relu()
        return F.conv_transpose2d(spread, weight, None, conv.stride, conv.padding, rest, 1, conv.dilation)

    return chain


def check(result: Any, expected: Any, name: str) -> None:
    """Within roundings of the result and of long float32 sums, measured by the largest number."""
    result, expected = (x[0] if isinstance(x, tuple) else x for x in (result, expected))
    eps = 4 * torch.finfo(result.dtype).eps + 64 * torch.finfo(torch.float32).eps
    allowed = eps * expected.float().abs().max()
    error = (result.float() - expected.float()).abs().max()
    if not error <= allowed:
        raise AssertionError(f"{name}: expected an error of at most {allowed:.2e}, got {error:.2e}")


def run(case: Case, dtype: torch.dtype, device: str, rounds: int, journal: Journal) -> None:
    """Checks and (with ``rounds``) times all variants on one shape, a line for each."""
    flat = numbers(case, case.flat(dtype, device))
    entry, work, name = registered()[case.op], case.work(dtype), f"{case.op}/{case.name}"
    expected = entry.variants["reference"].load()(*flat)
    eager = unfused(case, flat)
    baselines: dict[str, Callable[[], Any]] = {"unfused": eager}
    if device == "cuda" and not isinstance(case, WindowCase):  # a reference of windows is no baseline to be compiled
        baselines["compile"] = torch.compile(eager, dynamic=False)
    baseline = {label: seconds(function, device, rounds) for label, function in baselines.items() if rounds}
    for label, taken in baseline.items():
        journal.say(name, label, "", f"{taken * 1e6:10.1f} us", seconds=taken)
    for variant in entry.variants:
        reason = entry.why_not(variant, flat)
        if reason is not None:
            journal.say(name, variant, reason)
            continue
        function = entry.variants[variant].load()
        try:
            check(function(*flat), expected, f"{name} {variant}")
        except (AssertionError, RuntimeError) as error:
            journal.say(name, variant, "FAILS", str(error))
            continue
        if not rounds:
            journal.say(name, variant, "right")
            continue
        taken = seconds(lambda function=function: function(*flat), device, rounds)
        gbs, tflops = work.bytes / taken / 1e9, 2 * work.multiply_adds / taken / 1e12
        ratios = " ".join(f"{label} x{other / taken:.2f}" for label, other in baseline.items())
        fastest = min(baseline, key=lambda label: baseline[label])
        journal.say(
            name, variant, "right", f"{taken * 1e6:10.1f} us {gbs:8.1f} GB/s {tflops:8.2f} TFLOP/s {ratios}",
            seconds=taken, gbs=gbs, tflops=tflops, baseline=fastest, speedup=baseline[fastest] / taken,
        )  # fmt: skip

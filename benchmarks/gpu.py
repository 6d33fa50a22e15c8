"""The Triton and CUDA variants on a GPU, one command: python benchmarks/gpu.py [--only TEXT] [--dtype float16].

For each headline shape of ``zfkernels inspect``: the result is checked against the reference first, then timed; then
GB/s and TFLOP/s of what the task needs, and the ratio against PyTorch unfused and against torch.compile of it.
A wrong result is said and the others go on; the exit status is 1 then. ``--tune`` measures the Triton kernels' tiles
first and keeps the winners for this GPU. ``--check`` takes no times: with ``--device cpu --shapes small`` and
``TRITON_INTERPRET=1`` it tries the script and the kernels' numbers where there is no GPU.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from zfkernels.inspect.arguments import numbers
from zfkernels.inspect.cases import CASES, SMALL, Case
from zfkernels.ops import registered
from zfkernels.windows import Sliding


def unfused(case: Case, flat: tuple[Any, ...]) -> Callable[[], Any]:
    """What a user of PyTorch would write: its own functions for whole maps, the reference for windows."""
    reference = registered()[case.op].variants["reference"].load()
    if case.op != "unpool_relu_conv_transpose2d" or flat[3] is not None:
        return lambda: reference(*flat)
    from zfkernels.ops import switches_to_indices

    values, switches, weight, *_ = flat
    kernel, stride, padding, dilation, unpooled = flat[6:11]
    indices = switches_to_indices(switches, kernel, stride, padding, dilation, input_size=unpooled)
    indices = indices.clamp(0, unpooled[0] * unpooled[1] - 1)
    conv = Sliding(tuple(weight.shape[2:]), *flat[11:14])
    rest = [flat[15][axis] + 2 * conv.padding[axis] - conv.span(unpooled)[axis] for axis in (0, 1)]

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


def seconds(function: Callable[[], Any], device: str, rounds: int) -> float:
    """The median over rounds, each of enough calls for the clock."""
    function()
    if device != "cuda":
        times = []
        for _ in range(rounds):
            start = time.perf_counter()
            function()
            times.append(time.perf_counter() - start)
        return statistics.median(times)
    from triton.testing import do_bench

    return do_bench(function, rep=20 * rounds, return_mode="median") / 1e3


def run(case: Case, dtype: torch.dtype, device: str, rounds: int) -> int:
    """Checks and (with ``rounds``) times all variants on one shape; prints a line for each, returns how many fail."""
    flat = numbers(case, case.flat(dtype, device))
    entry, work, name = registered()[case.op], case.work(dtype), f"{case.op}/{case.name}"
    expected = entry.variants["reference"].load()(*flat)
    eager = unfused(case, flat)
    baselines: dict[str, Callable[[], Any]] = {"unfused": eager}
    if device == "cuda":
        baselines["compile"] = torch.compile(eager, dynamic=False)
    baseline = {label: seconds(function, device, rounds) for label, function in baselines.items() if rounds}
    for label, taken in baseline.items():
        print(f"{name:<48} {label:<10} {taken * 1e6:10.1f} us")
    failures = 0
    for variant in entry.variants:
        reason = entry.why_not(variant, flat)
        if reason is not None:
            print(f"{name:<48} {variant:<10} {reason}")
            continue
        function = entry.variants[variant].load()
        try:
            check(function(*flat), expected, f"{name} {variant}")
        except (AssertionError, RuntimeError) as error:
            failures += 1
            print(f"{name:<48} {variant:<10} FAILS: {error}")
            continue
        line = f"{name:<48} {variant:<10} right"
        if rounds:
            taken = seconds(lambda function=function: function(*flat), device, rounds)
            rates = f"{work.bytes / taken / 1e9:8.1f} GB/s {2 * work.multiply_adds / taken / 1e12:8.2f} TFLOP/s"
            ratios = " ".join(f"{label} x{other / taken:.2f}" for label, other in baseline.items())
            line += f" {taken * 1e6:10.1f} us {rates} {ratios}"
        print(line)
    return failures


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="cases with this in op/shape")
    parser.add_argument("--shapes", default="headline", choices=("headline", "small"))
    parser.add_argument("--dtype", default="float16", choices=("float32", "float16", "bfloat16"))
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--check", action="store_true", help="compare the results and take no times")
    parser.add_argument("--tune", action="store_true", help="measure the tiles and keep the winners")
    options = parser.parse_args(arguments)
    if options.device == "cuda" and not torch.cuda.is_available():
        print("gpu.py: expected a GPU that torch can use, got none (--device cpu checks the script)", file=sys.stderr)
        return 2
    if options.tune:
        os.environ["ZFKERNELS_TUNE"] = "1"
    where = torch.cuda.get_device_name() if options.device == "cuda" else "the CPU: these are no times of a GPU"
    print(f"torch {torch.__version__}, {options.dtype}, {where}")
    rounds = 0 if options.check else options.rounds
    failures = 0
    with torch.inference_mode():
        for case in CASES if options.shapes == "headline" else SMALL:
            if options.only in f"{case.op}/{case.name}":
                failures += run(case, getattr(torch, options.dtype), options.device, rounds)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())

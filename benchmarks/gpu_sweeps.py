"""Whole occlusion sweeps on a GPU against the dense pass: the network on every occluded image, channels last, cuDNN.

Correctness goes before time: both passes' outputs at a sample of positions are compared with float64. The dense pass
costs the same at every position: each size of batch runs a few times, the best one is scaled up to all positions.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from gpu_clock import busy, median, peak_bytes, timed
from gpu_journal import Journal
from networks import network
from torch import Tensor, nn

import zfkernels as zf
from zfkernels.occlusion.arguments import grid
from zfkernels.ops import registered
from zfkernels.replay import Replayed, without_graphs

SWEPT = ("occluded_conv2d", "window_conv2d", "window_max_pool2d", "window_gather")  # the ops of a sweep
BATCHES = (64, 128, 256, 512)
SAMPLE = 64  # positions that are compared
TRUTH_BATCH = 16
TWICE = 2  # as far from float64 as the dense pass of the same precision
PRECISIONS = {  # dtype, and what becomes of products of float32
    "float16": (torch.float16, "ieee"), "bfloat16": (torch.bfloat16, "ieee"),
    "tf32": (torch.float32, "tf32"), "float32": (torch.float32, "ieee"),
}  # fmt: skip
BASELINES = {"float16": ("float16",), "bfloat16": ("bfloat16",), "tf32": ("tf32",), "float32": ("float32", "tf32")}


@dataclass(frozen=True)
class SweepCase:
    """A sweep of a whole grid; ``kernels`` are what Triton compiles for a dtype: most of the first sweep's time."""

    model: str
    size: int
    window: int
    stride: int
    kernels: int

    @property
    def name(self) -> str:
        return f"sweep/{self.model}-{self.size}-w{self.window}-s{self.stride}"

    def seconds(self, backend: str, graph: bool = False) -> int:
        """That a line should take on a GPU, its dense passes included: an estimate, nobody has measured it.

        A graph's line comes behind that of the same kernels, which are compiled then.
        """
        return GRAPH_SECONDS if graph else 10 + (KERNEL_SECONDS * self.kernels if backend == "triton" else 0)


GRAPH_SECONDS, COMPILE_SECONDS, KERNEL_SECONDS = 6, 45, 1  # estimates as well
FIRST = (SweepCase("resnet50", 224, 16, 4, 30), SweepCase("vgg16", 224, 16, 4, 16))
OTHERS = (
    SweepCase("resnet18", 224, 16, 4, 18), SweepCase("squeezenet1_0", 224, 16, 4, 20),
    SweepCase("alexnet", 224, 16, 4, 10), SweepCase("resnet50", 1024, 32, 16, 30), SweepCase("vgg16", 1024, 32, 16, 16),
    SweepCase("mobilenet_v2", 224, 16, 4, 40), SweepCase("inception_v3", 299, 16, 4, 60),
)  # fmt: skip
SMALL = (SweepCase("toy", 16, 4, 4, 4),)  # takes an interpreter seconds


@contextlib.contextmanager
def products(of_float32: str) -> Iterator[None]:
    """Inside, convolutions and matrix products of float32 are ``ieee`` or ``tf32``; cuDNN tries its algorithms."""
    settings: tuple[Any, ...] = (torch.backends.cudnn.conv, torch.backends.cuda.matmul)
    before, tried = [s.fp32_precision for s in settings], torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    for setting in settings:
        setting.fp32_precision = of_float32
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = tried
        for setting, value in zip(settings, before, strict=True):
            setting.fp32_precision = value


def toy() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 3, padding=1),
        nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10),
    ).eval()  # fmt: skip


def occluded(image: Tensor, positions: Tensor, window: int) -> Tensor:
    """[P, C, H, W] channels last: the image [1, C, H, W] with a square of zeros at each position [P, 2]."""
    hidden = []
    for axis, size in enumerate(image.shape[2:]):
        at = torch.arange(size, device=image.device)
        start = positions[:, axis, None]
        hidden.append((at >= start) & (at < start + window))
    mask = (hidden[0][:, :, None] & hidden[1][:, None, :])[:, None]
    return torch.where(mask, torch.zeros_like(image), image).contiguous(memory_format=torch.channels_last)


@dataclass(frozen=True)
class Dense:
    """What the dense pass came to: its error, and seconds for all positions in its best batch (None: not timed)."""

    error: float
    seconds: float | None = None
    batch: int = 0


class Subject:
    """A network, its image and grid on a device, and what the dense pass came to in each precision."""

    def __init__(self, case: SweepCase, device: str) -> None:
        self.case, self.device = case, device
        self.network = toy() if case.model == "toy" else network(case.model)
        generator = torch.Generator().manual_seed(0)
        self.image = torch.randn(1, 3, case.size, case.size, generator=generator)
        places = grid((case.size, case.size), (case.window, case.window), (case.stride, case.stride))
        self.positions = places.reshape(-1, 2).to(device)
        self.sample = torch.randperm(len(self.positions), generator=generator)[:SAMPLE].to(device)
        self.dense: dict[str, Dense] = {}  # by precision

    def in_(self, dtype: torch.dtype) -> tuple[nn.Module, Tensor]:
        """The network and the image in a dtype."""
        model = copy.deepcopy(self.network).to(self.device, dtype, memory_format=torch.channels_last)
        return model, self.image.to(self.device, dtype, memory_format=torch.channels_last)

    @cached_property
    def truth(self) -> Tensor:
        """float64 [SAMPLE, classes]"""
        model, image = self.in_(torch.float64)
        chosen = self.positions[self.sample].split(TRUTH_BATCH)
        return torch.cat([model(occluded(image, chunk, self.case.window)) for chunk in chosen])

    def error(self, outputs: Tensor) -> float:
        """Of outputs at the sample: how far from float64, root mean square over that of the truth."""
        distance = (outputs.double() - self.truth).square().mean() / self.truth.square().mean()
        return float(distance.sqrt())


def run_dense(subject: Subject, precision: str, rounds: int, journal: Journal) -> None:
    """The line of the dense pass, unless there is one."""
    if precision in subject.dense:
        return
    case, device = subject.case, subject.device
    dtype, of_float32 = PRECISIONS[precision]
    with products(of_float32):
        model, image = subject.in_(dtype)
        chosen = subject.positions[subject.sample].split(TRUTH_BATCH)
        error = subject.error(torch.cat([model(occluded(image, chunk, case.window)) for chunk in chosen]))
        best: tuple[float, int] | None = None
        said = []
        for batch in BATCHES if rounds else ():
            places = subject.positions.repeat(-(-batch // len(subject.positions)), 1)[:batch]

            def one(places: Tensor = places) -> Tensor:
                return model(occluded(image, places, case.window))

            try:
                timed(one, device)
                taken = median(one, device, rounds).wall / batch * len(subject.positions)
            except RuntimeError as refused:  # does not fit the memory, as PyTorch or cuDNN puts it
                said.append(f"batch {batch}: {str(refused).strip().splitlines()[0][:100]}")
                break
            best = min(best or (taken, batch), (taken, batch))
    subject.dense[precision] = Dense(error, *(best or ()))
    figures: dict[str, Any] = {"error": error}
    text = f"error {error:.1e}"
    if best:
        rate = len(subject.positions) / best[0]
        text = f"{best[0] * 1e3:9.1f} ms {rate:8.0f} positions/s, batch {best[1]}, {text}"
        figures |= {"seconds": best[0], "positions_s": rate, "batch": best[1]}
    journal.say(case.name, f"dense/{precision}", "", ", ".join([text, *said]), **figures)


def run_dense_again(subject: Subject, how: str, precision: str, rounds: int, journal: Journal) -> None:
    """The dense pass in its best batch as a captured graph (``how`` is "graph"), or compiled by PyTorch ("compile")."""
    run_dense(subject, precision, rounds, journal)
    case, device, known = subject.case, subject.device, subject.dense[precision]
    if known.seconds is None:
        return
    dtype, of_float32 = PRECISIONS[precision]
    with products(of_float32):
        model, image = subject.in_(dtype)
        places = subject.positions.repeat(-(-known.batch // len(subject.positions)), 1)[: known.batch]
        compiled = model
        if how == "compile":
            compiled = torch.compile(model, dynamic=False, backend="inductor" if device == "cuda" else "eager")

        def one(places: Tensor, *, again: bool = False) -> Tensor:
            return compiled(occluded(image, places, case.window))

        expected = model(occluded(image, places, case.window)).double()
        call = Replayed("the dense pass", one) if how == "graph" else one
        first = timed(lambda: [call(places) for _ in range(2)], device).wall
        distance = (call(places).double() - expected).square().mean() / expected.square().mean()
        taken = median(lambda: call(places), device, rounds).wall / known.batch * len(subject.positions)
    text = f"{taken * 1e3:9.1f} ms, batch {known.batch}, x{known.seconds / taken:.2f} of dense, first {first:.1f} s"
    right = float(distance.sqrt()) <= TWICE * known.error + torch.finfo(dtype).eps
    journal.say(
        case.name, f"dense/{precision}/{how}", "" if right else "FAILS", text, seconds=taken, first_s=first,
        speedup=known.seconds / taken, error=float(distance.sqrt()),
    )  # fmt: skip


def run_ours(
    subject: Subject, backend: str, precision: str, rounds: int, journal: Journal, *, graph: bool = False
) -> None:
    """The line of a sweep, launched anew for each image or as a captured graph; the dense passes' before it."""
    case, device = subject.case, subject.device
    variant = f"{backend}/{precision}{'/graph' if graph else ''}"
    reason = why_not(SWEPT, backend)
    if reason is not None:
        journal.say(case.name, variant, reason)
        return
    for baseline in BASELINES[precision]:
        run_dense(subject, baseline, rounds, journal)
    dtype, of_float32 = PRECISIONS[precision]
    with products(of_float32), contextlib.nullcontext() if graph else without_graphs():
        model, image = subject.in_(dtype)
        maps = zf.occlusion_sweeps(
            model, itertools.repeat(image[0]), window=case.window, stride=case.stride, backend=backend
        )
        outputs: list[Tensor] = []
        first = timed(lambda: outputs.append(next(maps).outputs), device)
        if graph:  # the second is captured; a capture that is refused warns, and that is this line's failure
            with warnings.catch_warnings():
                warnings.simplefilter("error", RuntimeWarning)
                captured = timed(lambda: outputs.append(next(maps).outputs), device)
            outputs.append(next(maps).outputs)
        found = outputs.pop().flatten(0, 2)[subject.sample]
        error, dense_error = subject.error(found), subject.dense[precision].error
        allowed = TWICE * dense_error + torch.finfo(dtype).eps
        text = f"error {error:.1e}, dense {dense_error:.1e}"
        figures: dict[str, Any] = {"error": error, "dense_error": dense_error, "first_s": first.wall}
        if not error <= allowed:
            journal.say(case.name, variant, "FAILS", f"{text}, expected at most {allowed:.1e}", **figures)
            return
        if rounds:
            times = median(lambda: next(maps), device, rounds)
            figures |= {"seconds": times.wall, "host_s": times.host, "positions_s": len(subject.positions) / times.wall}
            figures["peak_bytes"] = peak_bytes(lambda: next(maps), device)
            said = [f"{times.wall * 1e3:9.1f} ms {figures['positions_s']:8.0f} positions/s"]
            ratios = {n: taken / times.wall for n in BASELINES[precision] if (taken := subject.dense[n].seconds)}
            if ratios:
                slowest = min(ratios, key=lambda name: ratios[name])
                figures |= {"baseline": f"dense/{slowest}", "speedup": ratios[slowest]}
            said += [f"x{ratio:.2f} of dense/{name}" for name, ratio in ratios.items()]
            said.append(f"host {times.host * 1e3:.1f} ms")
            if graph:
                figures["capture_s"] = captured.wall
                said.append(f"captured in {captured.wall:.2f} s" if device == "cuda" else "no graphs on a CPU")
            try:
                worked = busy(lambda: next(maps), device)
            except RuntimeError as refused:
                worked = None
                said.append(f"profiler: {str(refused).strip().splitlines()[0][:100]}")
            if worked:
                figures |= {"busy_s": worked[0], "kernels": worked[1]}
                said.append(f"GPU at work {worked[0] * 1e3:.1f} ms in {worked[1]} kernels")
            if figures["peak_bytes"]:
                said.append(f"peak {figures['peak_bytes'] / 2**30:.2f} GiB")
            text = ", ".join([*said, f"first {first.wall:.1f} s", text])
    journal.say(case.name, variant, "right", text, **figures)


def why_not(ops: Sequence[str], backend: str) -> str | None:
    """Why a method made of some ops cannot run with a backend, or None."""
    known = registered()
    return next((reason for name in ops if (reason := known[name].why_not(backend)) is not None), None)

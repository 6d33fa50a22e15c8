"""Whole sweeps from the figures of the compiled kernels: what is launched, what it moves, an estimate beside a bound.

A sweep runs once on tensors without numbers; what it called is written down with its shapes. The time of a call follows
from the record of the kernel that the router would take, on the recorded shape that is most like it. None of it is a
time that anybody measured.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from gpu_code.estimate import Work, bound
from gpu_code.gpus import GPUS, Gpu
from gpu_code.record import Record
from zfkernels.network import record
from zfkernels.network.program import Program
from zfkernels.occlusion.arguments import grid
from zfkernels.occlusion.calls import computes
from zfkernels.occlusion.cost import RATES
from zfkernels.occlusion.engine import WindowSweep, chunk_sizes
from zfkernels.ops import registered

LAUNCH = 4.0  # microseconds for a launch, taken as given
EVERYTHING = 2**62  # bytes: all positions in one chunk
PRODUCTS = ("convolution", "addmm", "mm")  # of libraries
BEST_BATCH = 512  # of the dense pass: its weights are read once for so many images


@dataclass(frozen=True)
class Case:
    """A sweep of a network over a grid of squares."""

    network: str
    size: int
    window: int
    stride: int


SWEEPS = (
    *(Case(name, 224, 16, 4) for name in ("vgg16", "resnet18", "resnet50", "squeezenet1_0")),
    Case("resnet50", 1024, 32, 16),
)


@dataclass(frozen=True)
class Sweep:
    """What is known of a sweep before anybody ran it.

    Attributes:
        case: which sweep.
        dtype: of the maps; float32 runs in TF32.
        positions: of the square.
        launches: calls that compute, of all chunks.
        operations: calls on the host, of all chunks.
        bytes: that the calls read and write.
        multiply_adds: of convolutions and matrix products.
        saving: the dense pass's multiply-adds over those.
        estimate_us: of the calls one after the other, and of the launches.
        dense_us: the bound from data-sheet rates of the dense pass on all occluded images.
        largest: the op that takes most of the estimate.
    """

    case: Case
    dtype: str
    positions: int
    launches: int
    operations: int
    bytes: int
    multiply_adds: int
    saving: float
    estimate_us: float
    dense_us: float
    largest: str

    @property
    def ratio(self) -> float:
        """Bound of the dense pass over the estimate of the sweep."""
        return self.dense_us / self.estimate_us


@dataclass(frozen=True)
class Call:
    """A call that computes: the op's name, and what its shapes mean."""

    op: str
    work: Work


class Calls(TorchDispatchMode):
    """Writes down what is called inside, not what that calls in turn."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0
        self.calls: list[Call] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.operations += 1
        if computes(func):
            tensors = {id(t): t for t in pytree.tree_leaves((args, kwargs, out)) if isinstance(t, Tensor)}
            size = sum(t.numel() * t.element_size() for t in tensors.values())
            self.calls.append(Call(func.overloadpacket.__name__, Work(_multiply_adds(func, args, out), size)))
        return out


def _multiply_adds(func: Any, args: tuple[Any, ...], out: Any) -> int:
    """Of convolutions and products: the cells of the value, times the filters of a cell."""
    names = [argument.name for argument in func._schema.arguments]
    name = func.overloadpacket.__name__
    if name not in PRODUCTS and not (func.namespace == "zfkernels" and "weight" in names):
        return 0
    if name in ("addmm", "mm"):
        return int(out.numel() * args[1 if name == "addmm" else 0].shape[1])
    weight = args[names.index("weight")]
    return int(out.numel() // weight.shape[0] * weight.numel())


def sweep_of(case: Case, model: nn.Module, dtype: str, records: Mapping[str, Record], arch: str) -> Sweep:
    """The line of a sweep.

    Args:
        case: which sweep.
        model: its network, on the device "meta".
        dtype: "float16" or "float32".
        records: of the kernels, by key.
        arch: "sm_90" and so on.
    """
    size, window, kind = (case.size, case.size), (case.window, case.window), getattr(torch, dtype)
    corners = grid(size, window, (case.stride, case.stride)).reshape(-1, 2)
    places, meta = torch.cat([corners, torch.tensor(window).expand_as(corners)], 1), torch.device("meta")
    recording = record(model.to(kind), (3, *size))
    sweep = WindowSweep(recording, places, rates=RATES["cuda"])
    plan, count = sweep.plan(meta, kind), len(places)
    images = torch.empty(1, 3, *size, dtype=kind, device=meta)
    clean, fill = sweep.clean(images), images.new_zeros(3)
    sweep(clean, fill, memory=EVERYTHING)  # what a first call makes of the filters
    with Calls() as calls:
        sweep(clean, fill, memory=EVERYTHING)
    chunks = math.ceil(count / chunk_sizes(plan, count, None, RATES["cuda"].budget)[0])
    times: dict[str, float] = {}
    for call in calls.calls:
        times[call.op] = times.get(call.op, 0.0) + _time(call, dtype, records, arch)
    launches = chunks * len(calls.calls)
    work = Work(sum(call.work.multiply_adds for call in calls.calls), sum(call.work.bytes for call in calls.calls))
    return Sweep(
        case, dtype, count, launches, chunks * calls.operations, work.bytes, work.multiply_adds,
        plan.dense / work.multiply_adds, sum(times.values()) + LAUNCH * launches,
        count * _dense(Program(recording, forwards=True), dtype, GPUS[arch]), max(times, key=lambda op: times[op]),
    )  # fmt: skip


def _time(call: Call, dtype: str, records: Mapping[str, Record], arch: str) -> float:
    """Microseconds: a library's calls at the data sheet's rates, the package's own as their compiled loops issue."""
    gpu = GPUS[arch]
    least = bound(call.work, dtype, gpu)
    if call.op not in registered():
        return least
    known = _nearest(call, dtype, records, arch)
    assert known.estimate_us is not None
    assert known.bound_us is not None
    if not known.multiply_adds:
        return least * max(1.0, known.estimate_us / known.bound_us)
    return max(least, known.estimate_us * call.work.multiply_adds / known.multiply_adds)


def _nearest(call: Call, dtype: str, records: Mapping[str, Record], arch: str) -> Record:
    """Of the family that the router tries first: the recorded shape whose multiply-adds per byte are nearest.

    Raises:
        ValueError: none is on record.
    """

    def density(multiply_adds: int, size: int) -> float:
        return math.log((multiply_adds + 1) / size)

    for family in registered()[call.op].preference["cuda"]:
        of_op = [
            known
            for known in records.values()
            if (known.op, known.family, known.arch, known.dtype) == (call.op, family, arch, dtype) and known.estimate_us
        ]
        if of_op:
            wanted = density(call.work.multiply_adds, call.work.bytes)
            return min(of_op, key=lambda known: abs(density(known.multiply_adds, known.bytes_floor) - wanted))
    raise ValueError(f"inspect: expected records of {call.op} in {dtype} for {arch}, got none")


def _dense(program: Program, dtype: str, gpu: Gpu) -> float:
    """Microseconds for an image that no program can beat: every step's inputs read once and its value written once."""
    itemsize, total = getattr(torch, dtype).itemsize, 0.0
    for kind in program.kinds.values():
        cells = kind.maps.frame[0] * kind.maps.frame[1] if kind.maps is not None else 1
        numbers = math.prod(kind.sizes or (1,)) if kind.inputs else 0
        numbers += sum(math.prod(program.kinds[name].sizes or (1,)) for name in kind.inputs)
        weights = kind.filters.numel() / BEST_BATCH if kind.filters is not None else 0
        total += bound(Work(kind.multiply_adds * cells, int((numbers + weights) * itemsize)), dtype, gpu)
    return total


def markdown(sweeps: Sequence[Sweep], arch: str) -> str:
    """A table."""
    lines = [
        f"# Whole sweeps on {arch} ({GPUS[arch].name} data sheet), without a GPU", "",
        "Made by `python tools/gpu_code --sweeps`. **Nothing here is a time that anybody measured.** A sweep ran on"
        " tensors without numbers; *launches*, *operations* of the host, *bytes* and *multiply-adds* are those of its"
        " calls (chunks of 2 GiB). *Estimate, sweep*: each of this package's kernels as its compiled loops issue, on"
        " the recorded shape that is most like it, or its bytes, if that is more; calls of libraries at the data"
        f" sheet's rates; and {LAUNCH:.0f} us for a launch, one after the other. *Bound, dense*: what no program can"
        " beat on all occluded images, at data-sheet rates: for each step max(multiply-adds / peak, bytes /"
        f" bandwidth), {BEST_BATCH} images in a batch, convolutions fused with what follows them, no launches.", "",
        "| network | size | window, stride | dtype | positions | launches | operations | GB | GMAC | fewer GMAC "
        "| estimate, sweep, ms | bound, dense, ms | dense / sweep | most of it |",
        "|---|--:|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|---|",
    ]  # fmt: skip
    for found in sweeps:
        case, dtype = found.case, "tf32" if found.dtype == "float32" else found.dtype
        cells = [
            case.network, case.size, f"{case.window}, {case.stride}", dtype, found.positions, found.launches,
            found.operations, f"{found.bytes / 1e9:.1f}", f"{found.multiply_adds / 1e9:.0f}", f"{found.saving:.2f}",
            f"{found.estimate_us / 1e3:.2f}", f"{found.dense_us / 1e3:.2f}", f"{found.ratio:.2f}", found.largest,
        ]  # fmt: skip
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines) + "\n"

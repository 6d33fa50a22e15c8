"""What a sweep asks of the host and of the memory: counted, without a GPU and without a quiet machine.

    python benchmarks/host.py --csv benchmarks/results/host.csv

A warm sweep (recorded and planned before) of the whole grid at 224, window 16, stride 4: 2,809 positions in one chunk.

- Kernels and operations: a network of the same geometry with two channels a layer. *Operations* are what the sweep
  calls; *all* are those and what they call in turn, as the profiler counts them.
- Host time: the same on tensors without memory, whose kernels return at once; processor time, median of the rounds.
  The rules for shapes, partly in Python, that stand in for the kernels are in it: a GPU's launches are not.
- Multiply-adds: the network of its own width on tensors without memory, from the shapes of the calls that were made.
- Memory: that network on real numbers, two chunks of a stated budget: the most that PyTorch's allocator held at once
  beyond the clean pass, over the budget.
"""

from __future__ import annotations

import itertools
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parent.parent / "tools"))  # what counts calls

import click
import torch
from gpu_code.sweeps import Calls
from machine import description
from networks import chosen, network
from records import append
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from zfkernels.models import get_model
from zfkernels.network import record
from zfkernels.occlusion.arguments import grid
from zfkernels.occlusion.cost import RATES
from zfkernels.occlusion.engine import WindowSweep
from zfkernels.ops import registered

SIDE, WINDOW, STRIDE = (224, 224), (16, 16), (4, 4)
GEOMETRY = ("resnet18", "resnet34", "vgg16")
NETWORKS = ("vgg16", "resnet18", "resnet50", "alexnet", "squeezenet1_0", "densenet121")
BUDGET = 2**25
CHANNELS = 2


def narrow(name: str) -> nn.Module:
    """A network of torchvision with two channels a layer and images of three."""
    model = get_model(name, weights=None)
    for parent in list(model.modules()):
        for key, child in list(parent.named_children()):
            if isinstance(child, nn.Conv2d):
                inputs = 3 if child.in_channels == 3 else CHANNELS
                setattr(parent, key, nn.Conv2d(inputs, CHANNELS, child.kernel_size, child.stride, child.padding))
            elif isinstance(child, nn.BatchNorm2d):
                setattr(parent, key, nn.BatchNorm2d(CHANNELS))
            elif isinstance(child, nn.Linear):
                cells = 49 * CHANNELS if child.in_features == 49 * 512 else CHANNELS
                setattr(parent, key, nn.Linear(cells, 10 if child.out_features == 1000 else CHANNELS))
    return model.eval()


def places() -> Tensor:
    """int64 [2809, 4]."""
    corners = grid(SIDE, WINDOW, STRIDE).reshape(-1, 2)
    return torch.cat([corners, torch.tensor(WINDOW).expand_as(corners)], 1)


def sweep_of(model: nn.Module, boxes: Tensor, device: str) -> WindowSweep:
    """Planned as for ``device``, whatever the tensors are on."""
    return WindowSweep(record(model, (3, *SIDE)), boxes, rates=RATES[device])


def warm(sweep: WindowSweep, image: Tensor) -> Callable[[], object]:
    """The sweep in one chunk, recorded and planned."""
    fill = image.new_zeros(3)
    call = lambda: sweep(image, fill, memory=2**62)  # noqa: E731
    call()
    return call


def asked_of_the_host(name: str, device: str, rounds: int) -> dict[str, Any]:
    """Launches, operations and host time of a network's geometry."""
    image = torch.randn(1, 3, *SIDE)
    sweep = sweep_of(narrow(name), places(), device)
    call = warm(sweep, image)
    with Calls() as calls:
        call()
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        call()
    plan = sweep.plan(image.device, image.dtype)
    ours = sum(called.op in registered() for called in calls.calls)
    call = warm(sweep_of(narrow(name).to("meta"), places(), device), image.to("meta"))
    times = []
    for _ in range(rounds):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return {
        "steps_on_windows": len(plan.head), "inputs_of_those": sum(len(kind.inputs) for kind in plan.head),
        "kernels_of_ours": ours, "operations": calls.operations, "operations_all": len(profiler.events()),
        "host_ms": round(1e3 * statistics.median(times), 1),
    }  # fmt: skip


def multiply_adds(name: str, device: str) -> dict[str, Any]:
    """Executed against exact boxes, without the clean pass."""
    model = get_model(name, weights=None).to("meta")
    image = torch.empty(1, 3, *SIDE, device="meta")
    sweep = sweep_of(model, places(), device)
    call, plan = warm(sweep, image), sweep.plan(image.device, image.dtype)
    with Calls() as of_clean:
        sweep.clean(image)
    with Calls() as of_all:
        call()
    all_, clean = (sum(called.work.multiply_adds for called in calls.calls) for calls in (of_all, of_clean))
    executed = all_ - clean
    return {
        "dense_gmac": round(plan.dense / 1e9, 1), "exact_gmac": round(plan.exact / 1e9, 1),
        "executed_gmac": round(executed / 1e9, 1), "executed_over_exact": round(executed / plan.exact, 4),
        "saving": round(plan.dense / executed, 2),
    }  # fmt: skip


def memory(name: str, device: str) -> dict[str, Any]:
    """The most that two chunks of a budget hold at once."""
    image, fill = torch.randn(1, 3, *SIDE), torch.zeros(3)
    boxes = places()[torch.randperm(2809, generator=torch.Generator().manual_seed(0))]
    model = network(name)
    chunk = BUDGET // sweep_of(model, boxes, device).plan(image.device, image.dtype).least_bytes
    sweep = sweep_of(model, boxes[: 2 * chunk], device)
    clean = sweep.clean(image)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        sweep(clean, fill, memory=BUDGET)
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    peak = max(itertools.accumulate(e.nbytes() for e in sorted(events, key=lambda event: event.start_ns())))
    return {"budget_mib": BUDGET >> 20, "chunk": chunk, "peak_mib": round(peak / 2**20, 1),
            "peak_over_budget": round(peak / BUDGET, 3)}  # fmt: skip


FIELDS = (
    "steps_on_windows", "inputs_of_those", "kernels_of_ours", "operations", "operations_all", "host_ms", "dense_gmac",
    "exact_gmac", "executed_gmac", "executed_over_exact", "saving", "budget_mib", "chunk", "peak_mib",
    "peak_over_budget",
)  # fmt: skip


@click.command()
@click.option("--rounds", type=click.IntRange(min=1), default=15, show_default=True)
@click.option("--networks", help="Names, separated by commas; default: all.")
@click.option("--csv", "path", type=click.Path(path_type=Path), help="File that rows are appended to.")
@click.option("--skip-memory", is_flag=True, help="Leave out what computes on real numbers (minutes).")
def main(rounds: int, networks: str | None, path: Path | None, skip_memory: bool) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    about = {key: description()[key] for key in ("device", "torch", "commit")}
    names = chosen(networks, (*GEOMETRY, *NETWORKS))
    for name, device in itertools.product(names, RATES):
        row: dict[str, Any] = dict.fromkeys(FIELDS, "")
        if name in GEOMETRY:
            row |= asked_of_the_host(name, device, rounds)
        if name in NETWORKS:
            row |= multiply_adds(name, device)
            if not skip_memory:
                row |= memory(name, device)
        row = {"network": name, "planned_for": device} | row
        click.echo("  ".join(f"{key} {value}" for key, value in row.items()))
        if path is not None:
            append(path, row | about)


if __name__ == "__main__":
    main()

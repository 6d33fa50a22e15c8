"""Pairs of squares, and deletion curves, against what anybody would write: processor time, wall time, multiply-adds.

    python benchmarks/pairs_and_curves.py pairs --csv benchmarks/results/pairs.csv     # vgg16, 49 squares of 32
    python benchmarks/pairs_and_curves.py curves --networks vgg16,resnet18 --threads 2

Pairs: ``occlusion_pairs`` against a sweep that takes each pair as one large change (the box around both squares).
Curves: ``deletion_curve`` against the network itself on all states, the faster of contiguous and channels last. All
contenders run in turn, round by round; a row has the medians. Multiply-adds are counted from the boxes, convolutions
and matrix products alone.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import click
import torch
from machine import description
from networks import channels_last, existing, network
from records import append
from torch import Tensor

import zfkernels as zf
from zfkernels.network import record
from zfkernels.occlusion.arguments import grid
from zfkernels.occlusion.engine import WindowSweep
from zfkernels.occlusion.pairs import common_boxes
from zfkernels.occlusion.sweeper import Sweeper
from zfkernels.occlusion.where import Where

SIDE, WINDOW, BATCH = 224, 32, 8
SQUARES = grid((SIDE, SIDE), (WINDOW, WINDOW), (WINDOW, WINDOW)).reshape(-1, 2)


def image() -> Tensor:
    return torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


def raced(contenders: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Medians of the processor time and the wall time of each, in seconds."""
    times: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name, call in contenders.items():
            processor, wall = time.process_time(), time.perf_counter()
            call()
            times.setdefault(f"{name}_cpu_s", []).append(time.process_time() - processor)
            times.setdefault(f"{name}_wall_s", []).append(time.perf_counter() - wall)
    return {name: round(statistics.median(values), 3) for name, values in times.items()}


def planned(name: str, boxes: Tensor) -> Any:
    """The plan of a sweep of ``network(name)`` over boxes [P, 4]."""
    return WindowSweep(record(network(name), image()), boxes).plan(torch.device("cpu"), torch.float32)


def around(pairs: Tensor) -> Tensor:
    """int64 [K, 4]: the box around both squares of each pair."""
    low = torch.minimum(SQUARES[pairs[:, 0]], SQUARES[pairs[:, 1]])
    high = torch.maximum(SQUARES[pairs[:, 0]], SQUARES[pairs[:, 1]]) + WINDOW
    return torch.cat([low, high - low], 1)


def pair_savings(name: str, pairs: Tensor) -> dict[str, float]:
    """Times fewer multiply-adds than the network itself on the occluded images, if all that can run on windows does."""
    plan = planned(name, torch.cat([SQUARES, torch.full_like(SQUARES, WINDOW)], 1))
    both = 0.0
    whole = sum(kind.multiply_adds * cells(kind) for kind in plan.tail)
    for kind in plan.head:
        boxes = plan.places[plan.place[kind.name]].boxes
        shared = common_boxes(boxes[pairs[:, 0]], boxes[pairs[:, 1]])[:, 2:].long()
        both += kind.multiply_adds * float(shared.prod(1).sum())
    dense = plan.dense / len(SQUARES)
    executed = (both + whole * len(pairs) + plan.planned) / (len(pairs) * dense)
    large = planned(name, around(pairs))
    return {"pairs_saving": round(1 / executed, 2), "one_change_saving": round(large.dense / large.planned, 2)}


def cells(kind: Any) -> int:
    return 1 if kind.maps is None else kind.maps.frame[0] * kind.maps.frame[1]


def measure_pairs(name: str, rounds: int, count: int) -> dict[str, Any]:
    every = torch.combinations(torch.arange(len(SQUARES)))
    some = torch.randperm(len(every), generator=torch.Generator().manual_seed(0))[:count]
    pairs, model, x = every[some], network(name), image()
    sweeper = Sweeper(model, Where(windows=around(pairs)))
    contenders = {
        "pairs": lambda: zf.occlusion_pairs(model, x, window=WINDOW, positions=SQUARES, pairs=pairs),
        "one_change": lambda: sweeper.sweep(x, 0.0),
    }
    check_pairs(contenders["pairs"](), x, name)
    contenders["one_change"]()
    return (
        {"what": "pairs", "network": name, "steps": len(pairs)} | raced(contenders, rounds) | pair_savings(name, pairs)
    )


@torch.no_grad()
def check_pairs(found: Any, x: Tensor, name: str) -> None:
    for k in range(0, len(found.pairs), max(1, len(found.pairs) // 3)):
        occluded = x.clone()
        for top, left in SQUARES[found.pairs[k]].tolist():
            occluded[:, :, top : top + WINDOW, left : left + WINDOW] = 0
        torch.testing.assert_close(found.outputs[0, k], network(name)(occluded)[0], rtol=1e-3, atol=1e-3)


@torch.no_grad()
def dense_curve(model: Any, x: Tensor, order: Tensor, memory_format: torch.memory_format) -> Tensor:
    """[steps + 1, classes]: all states of the image through the network, in batches."""
    states, state = [x[0]], x[0].clone()
    for top, left in SQUARES[order].tolist():
        state[:, top : top + WINDOW, left : left + WINDOW] = 0
        states.append(state.clone())
    batches = torch.stack(states).split(BATCH)
    return torch.cat([model(batch.contiguous(memory_format=memory_format)) for batch in batches])


def measure_curves(name: str, rounds: int) -> dict[str, Any]:
    model, x = network(name), image()
    order = torch.randperm(len(SQUARES), generator=torch.Generator().manual_seed(0))
    contenders = {
        "curve": lambda: zf.deletion_curve(model, x, order, window=WINDOW).outputs[0],
        "contiguous": lambda: dense_curve(model, x, order, torch.contiguous_format),
        "channels_last": lambda: dense_curve(channels_last(name), x, order, torch.channels_last),
    }
    torch.testing.assert_close(contenders["curve"](), contenders["channels_last"](), rtol=1e-3, atol=1e-3)
    plan = planned(name, torch.cat([SQUARES, torch.full_like(SQUARES, WINDOW)], 1))
    saving = {"curve_saving": round(plan.dense / plan.planned, 2), "exact_saving": round(plan.dense / plan.exact, 2)}
    return {"what": "curve", "network": name, "steps": len(order)} | raced(contenders, rounds) | saving


@click.command()
@click.argument("what", type=click.Choice(["pairs", "curves"]))
@click.option("--networks", default="vgg16", show_default=True, help="Separated by commas.")
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True)
@click.option("--pairs", "count", type=click.IntRange(min=1), default=1176, show_default=True, help="Of the 1,176.")
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--csv", "path", type=click.Path(path_type=Path), help="File that rows are appended to.")
def main(what: str, networks: str, rounds: int, count: int, threads: int, path: Path | None) -> None:
    torch.set_num_threads(threads)
    machine = {key: description()[key] for key in ("device", "torch", "commit")}
    about = {"date": datetime.now(timezone.utc).isoformat(), "threads": threads, "rounds": rounds} | machine
    for name in existing(networks):
        row = about | (measure_pairs(name, rounds, count) if what == "pairs" else measure_curves(name, rounds))
        click.echo("  ".join(f"{key} {row[key]}" for key in list(row)[6:]))
        if path is not None:
            append(path, row)


if __name__ == "__main__":
    main()

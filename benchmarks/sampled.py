"""Random positions and whole grids against the fastest dense form.

    python benchmarks/sampled.py --random --rounds 3 --csv benchmarks/results/sampled.csv
    python benchmarks/sampled.py --grids --rounds 1 --csv benchmarks/results/sampled.csv

Float32, 224 x 224, window 16, grid of stride 4 (2,809 positions), fresh weights. Sweeps of random positions are warm;
those of whole grids are first calls, recording and planning included. Dense: the network itself on 32 occluded images,
scaled up, channels last in batches of 8 and of 32, and contiguous in batches of 32; the fastest counts. All run in
turn, round after round; the ratio is the median of the rounds' own. Seconds are those on the wall, for a
quiet machine; with ``--processor`` processor time of one thread, for a machine that others use as well.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import click
import torch
from machine import description
from networks import chosen, network
from records import append
from torch import Tensor, nn

from zfkernels.occlusion.arguments import grid
from zfkernels.occlusion.sweeper import Sweeper
from zfkernels.occlusion.where import Where

SIDE, WINDOW, STRIDE = 224, (16, 16), (4, 4)
DENSE = 32  # images
FORMS = [(torch.channels_last, 8), (torch.channels_last, 32), (torch.contiguous_format, 32)]
RANDOM = {"alexnet": 128, "resnet18": 128, "squeezenet1_0": 128, "zfnet": 128, "inception_v3": 128, "vgg16": 48}
GRIDS = dict.fromkeys(("alexnet", "resnet18", "squeezenet1_0", "vgg16"), 2809)


def seconds(call: Callable[[], object], clock: Callable[[], float]) -> float:
    start = clock()
    call()
    return clock() - start


@torch.no_grad()
def dense(model: nn.Module, images: Tensor, batch: int) -> None:
    for part in images.split(batch):
        model(part)


def measure(name: str, count: int, rounds: int, clock: Callable[[], float]) -> dict[str, object]:
    """A row of the table."""
    model, image, occluded = network(name), torch.randn(1, 3, SIDE, SIDE), torch.randn(DENSE, 3, SIDE, SIDE)
    places = grid((SIDE, SIDE), WINDOW, STRIDE).reshape(-1, 2)
    chosen = places if count == len(places) else places[torch.randperm(len(places))[:count]]
    sweeper = Sweeper(model, Where(WINDOW, positions=chosen))
    if count < len(places):
        sweeper.sweep(image, 0.0)
    swept, fastest, ratios = [], [], []
    for _ in range(rounds):
        swept.append(seconds(lambda: sweeper.sweep(image, 0.0), clock))
        times = []
        for memory_format, batch in FORMS:
            model.to(memory_format=memory_format)
            images = occluded.contiguous(memory_format=memory_format)
            dense(model, images[:batch], batch)
            spent = seconds(lambda images=images, batch=batch: dense(model, images, batch), clock)
            times.append(spent * count / DENSE)
        model.to(memory_format=torch.contiguous_format)
        fastest.append(min(times))
        ratios.append(fastest[-1] / swept[-1])
    return {
        "network": name, "positions": count, "rounds": rounds, "sweep_s": round(statistics.median(swept), 3),
        "dense_s": round(statistics.median(fastest), 3), "ratio": round(statistics.median(ratios), 2),
        "lowest": round(min(ratios), 2), "highest": round(max(ratios), 2),
    }  # fmt: skip


@click.command()
@click.option("--random", "table", flag_value="random", default="random", help="128 random positions (vgg16: 48).")
@click.option("--grids", "table", flag_value="grids", help="All 2,809.")
@click.option("--networks", help="Of the table, separated by commas; default: all.")
@click.option("--positions", type=click.IntRange(min=1), help="In place of the table's.")
@click.option("--processor", is_flag=True, help="Processor time of one thread.")
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True)
@click.option("--csv", "path", type=click.Path(path_type=Path), help="File that rows are appended to.")
def main(
    table: str, networks: str | None, positions: int | None, processor: bool, rounds: int, path: Path | None
) -> None:  # fmt: skip
    torch.manual_seed(0)
    clock = time.process_time if processor else time.perf_counter
    if processor:
        torch.set_num_threads(1)
    counts = RANDOM if table == "random" else GRIDS
    about: dict[str, object] = {"clock": "processor" if processor else "wall"}
    about |= {"date": datetime.now(timezone.utc).isoformat(timespec="seconds")}
    about |= {key: description()[key] for key in ("device", "threads", "torch", "commit", "load")}
    for name in chosen(networks, counts):
        row = measure(name, positions or counts[name], rounds, clock) | about
        network.cache_clear()
        click.echo("  ".join(f"{key} {row[key]}" for key in row if key not in about))
        if path is not None:
            append(path, row)


if __name__ == "__main__":
    main()

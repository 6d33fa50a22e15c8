"""Is a sweep anywhere slower than running the whole network? Torchvision's classification models, one after the other.

    python benchmarks/never_slower.py --positions 64 --rounds 3 --csv benchmarks/results/never_slower.csv

For each network a warm sweep of random positions against the fastest dense form: the network itself on occluded images,
in batches of 8 and of 32, contiguous and channels last. All forms run in turn, in processor time on one thread, so that
a machine with other work to do can be measured on. The saving is that of multiply-adds in the boxes that change; the
predicted time is what the plan was chosen by. What a first call costs once (recording, checks, plan) stands apart.
"""

from __future__ import annotations

import csv
import statistics
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import click
import torch
from machine import description
from networks import network
from torch import Tensor, nn

from zfkernels.occlusion.arguments import grid
from zfkernels.occlusion.engine import WindowSweep
from zfkernels.occlusion.sweeper import Sweeper
from zfkernels.occlusion.where import Where

SIDE, WINDOW, STRIDE = 224, (16, 16), (4, 4)
FORMS = [(format, batch) for format in (torch.contiguous_format, torch.channels_last) for batch in (8, 32)]


def seconds(call: Callable[[], object]) -> float:
    """Processor time."""
    start = time.process_time()
    call()
    return time.process_time() - start


@torch.no_grad()
def dense(model: nn.Module, images: Tensor, batch: int) -> None:
    for part in images.split(batch):
        model(part)


def measure(name: str, count: int, rounds: int) -> dict[str, object]:
    """A row of the table."""
    model, image = network(name), torch.randn(1, 3, SIDE, SIDE)
    places = grid((SIDE, SIDE), WINDOW, STRIDE).reshape(-1, 2)
    sweeper = Sweeper(model, Where(WINDOW, positions=places[torch.randperm(len(places))[:count]]))
    first = seconds(lambda: sweeper.sweep(image, 0.0))
    run = next(iter(sweeper.runs.values()))
    occluded = torch.randn(count, 3, SIDE, SIDE)
    times: dict[object, list[float]] = {}
    for _ in range(rounds):
        times.setdefault("sweep", []).append(seconds(lambda: sweeper.sweep(image, 0.0)))
        for memory_format, batch in FORMS:
            model.to(memory_format=memory_format)
            images = occluded.contiguous(memory_format=memory_format)
            spent = seconds(lambda images=images, batch=batch: dense(model, images, batch))
            times.setdefault((memory_format, batch), []).append(spent)
    model.to(memory_format=torch.contiguous_format)
    swept = statistics.median(times["sweep"])
    fastest, form = min((statistics.median(times[form]), form) for form in FORMS)
    row: dict[str, object] = {
        "network": name, "sweep_s": round(swept, 3), "dense_s": round(fastest, 3),
        "dense_form": f"{str(form[0]).removeprefix('torch.')}, batch {form[1]}", "ratio": round(fastest / swept, 2),
        "once_s": round(first - swept, 2), "saving": "", "predicted_s": "",
    }  # fmt: skip
    if isinstance(run, WindowSweep):
        plan = run.plan(image.device, image.dtype)
        row |= {"saving": round(plan.dense / plan.exact, 2), "predicted_s": round(plan.seconds, 3)}
    return row


@click.command()
@click.option("--networks", help="Names, separated by commas; default: all that torchvision has.")
@click.option("--positions", type=click.IntRange(min=1), default=64, show_default=True)
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True)
@click.option("--csv", "path", type=click.Path(path_type=Path), help="File that rows are appended to.")
def main(networks: str | None, positions: int, rounds: int, path: Path | None) -> None:
    import torchvision

    names = networks.split(",") if networks else torchvision.models.list_models(torchvision.models)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    about = {"date": datetime.now(timezone.utc).isoformat(), "positions": positions, "rounds": rounds}
    machine = {key: description()[key] for key in ("device", "torch", "commit")}
    for name in names:
        row = about | machine | measure(name, positions, rounds)
        network.cache_clear()
        click.echo("  ".join(f"{key} {row[key]}" for key in list(row)[6:]))
        if path is not None:
            is_new = not path.exists()
            with path.open("a", newline="") as file:
                writer = csv.DictWriter(file, list(row), lineterminator="\n")
                if is_new:
                    writer.writeheader()
                writer.writerow(row)


if __name__ == "__main__":
    main()

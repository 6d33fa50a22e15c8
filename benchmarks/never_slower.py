"""Is a sweep anywhere slower than running the whole network? Classification models of torchvision and timm in turn.

    python benchmarks/never_slower.py --csv benchmarks/results/never_slower.csv --page docs/background/never_slower.md
    python benchmarks/never_slower.py --networks densenet121,timm:ghostnet_100 --wall --threads 2 --csv FILE

For each network a warm sweep of random positions against the fastest dense form: the network itself on occluded images,
in batches of 8 and of 32, contiguous and channels last; a first round finds the fastest. The sweep and that form then
run in turn, by default in processor time on one thread, so that a machine with other work to do can be measured on.
Of large networks fewer positions run: as many as the network itself computes within ``--budget`` seconds. Times are
then those of ``--positions``, with the one clean pass of a sweep counted once. The saving is that of multiply-adds in
the boxes that change; the predicted time is what the plan was chosen by. What a first call costs once (recording,
checks, plan) stands apart.
"""

from __future__ import annotations

import csv
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from pathlib import Path

import click
import torch
from machine import description
from networks import existing, network
from records import append
from torch import Tensor, nn

from zfkernels.occlusion.arguments import grid
from zfkernels.occlusion.cost import rates_of
from zfkernels.occlusion.engine import WindowSweep
from zfkernels.occlusion.sweeper import Sweeper
from zfkernels.occlusion.where import Where

SIDE, WINDOW, STRIDE = 224, (16, 16), (4, 4)
LEAST = 8  # positions of the largest network
FORMS = [(format, batch) for format in (torch.contiguous_format, torch.channels_last) for batch in (8, 32)]
Form = tuple[torch.memory_format, int]


@dataclass(frozen=True)
class Scale:
    """How much is measured, and by which clock."""

    positions: int
    rounds: int
    budget: float
    clock: Callable[[], float]

    def seconds(self, call: Callable[[], object]) -> float:
        start = self.clock()
        call()
        return self.clock() - start


@torch.no_grad()
def dense(model: nn.Module, images: Tensor, batch: int) -> None:
    for part in images.split(batch):
        model(part)


def in_form(model: nn.Module, images: Tensor, form: Form) -> tuple[nn.Module, Tensor]:
    return model.to(memory_format=form[0]), images.contiguous(memory_format=form[0])


def fastest_form(model: nn.Module, scale: Scale) -> tuple[Form, int]:
    """The fastest dense form, and how many positions it computes within the budget."""
    images, times = torch.randn(32, 3, SIDE, SIDE), dict[Form, float]()
    dense(model, images[:1], 1)
    one = scale.seconds(lambda: dense(model, images[:2], 2)) / 2
    count = max(2, min(32, int(scale.budget / 4 / one)))
    for form in FORMS:
        call = partial(dense, *in_form(model, images[:count], form), form[1])
        times[form] = scale.seconds(call) / count
    form = min(times, key=lambda form: times[form])
    return form, max(min(scale.positions, int(scale.budget / times[form])), LEAST)


def measure(name: str, scale: Scale) -> dict[str, object]:
    """A row of the table."""
    model, image = network(name), torch.randn(1, 3, SIDE, SIDE)
    form, count = fastest_form(model, scale)
    places = grid((SIDE, SIDE), WINDOW, STRIDE).reshape(-1, 2)
    sweeper = Sweeper(model, Where(WINDOW, positions=places[torch.randperm(len(places))[:count]]))
    first = scale.seconds(lambda: sweeper.sweep(image, 0.0))
    run = next(iter(sweeper.runs.values()))
    model, occluded = in_form(model, torch.randn(count, 3, SIDE, SIDE), form)
    times = [
        (
            scale.seconds(lambda: sweeper.sweep(image, 0.0)),
            scale.seconds(lambda: dense(model, occluded, form[1])),
            scale.seconds(lambda: run.clean(image)),
        )
        for _ in range(scale.rounds)
    ]
    sweep, frames, clean = (statistics.median(column) for column in zip(*times, strict=True))
    more = scale.positions / count

    def all_positions(sweep: float, clean: float) -> float:
        return clean + (sweep - clean) * more

    whole, swept = frames * more, all_positions(sweep, clean)
    row: dict[str, object] = {
        "run": count, "network": name, "sweep_s": round(swept, 3), "dense_s": round(whole, 3),
        "dense_form": f"{str(form[0]).removeprefix('torch.')}, batch {form[1]}", "ratio": round(whole / swept, 2),
        "once_s": round(first - sweep, 2), "saving": "", "predicted_s": "",
    }  # fmt: skip
    if isinstance(run, WindowSweep):
        plan = run.plan(image.device, image.dtype)
        alone = rates_of(image.device.type).on_frames(plan.dense / count, 0, 0)
        predicted = all_positions(plan.seconds, alone)
        row |= {"saving": round(plan.dense / plan.exact, 2), "predicted_s": round(predicted, 3)}
    return row


def page(rows: list[dict[str, str]]) -> str:
    """The document that shows all rows of a file, the latest of each network."""
    rows = [row for _, row in sorted({row["network"]: row for row in rows}.items())]
    planned = [row for row in rows if row["saving"]]
    whole = sum(float(row["ratio"]) >= 0.97 for row in rows)
    most = sum(float(row["ratio"]) >= 0.75 * float(row["saving"]) for row in planned)
    near = [float(row["predicted_s"]) / float(row["sweep_s"]) for row in planned]
    fewest = min(int(row["rounds"]) for row in rows)
    told, first = sum(0.75 <= ratio <= 1.25 for ratio in near), rows[0]
    lines = [
        "# Sweeps against the network itself", "",
        "You get: for each network how long a sweep takes, and how long the network itself takes for the same.", "",
        f"A square of 16 pixels, stride 4, images of 224 x 224, {first['positions']} random positions, float32, random "
        f"weights; {first['device']}, torch {first['torch']}. {first['clock'].capitalize()} time, threads: "
        f"{first['threads']}, medians of {fewest} rounds or more in turn. The network itself runs on occluded "
        "images, in the fastest of batches of 8 and 32 and of both memory formats. For large networks fewer positions "
        "run. Their times are scaled up, with the one clean pass of a sweep counted once.", "",
        "*Saving*: multiply-adds of whole images, divided by those in the boxes that can change. *Predicted*: the time "
        "that the plan expects, divided by the measured time. *Once*: the seconds that the first call takes longer. "
        "Processor time is measured since the machine had other work. Such work slows down what is limited by memory, "
        "whole images above all.", "",
        f"For {whole} of {len(rows)} networks the sweep takes no longer than the network itself, within 3 %. {most} of "
        f"{len(planned)} reach three quarters of their saving. For {told} of {len(planned)} the plan predicts the time "
        "within a quarter.", "",
        "| network | positions run | itself, s | sweep, s | faster | saving | predicted | once, s |",
        "|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for row in rows:
        known = row["saving"] != ""
        predicted = f"{float(row['predicted_s']) / float(row['sweep_s']):.2f}" if known else "-"
        lines.append(
            f"| {row['network']} | {row['run']} | {row['dense_s']} | {row['sweep_s']} | {row['ratio']}x | "
            f"{row['saving'] + 'x' if known else '-'} | {predicted} | {row['once_s']} |"
        )
    lines += [
        "",
        "`python benchmarks/never_slower.py --csv FILE --page docs/background/never_slower.md` repeats it.",
        "",
        "## Next",
        "",
        "[Large images](large_images.md), where sweeps gain most.",
        "",
    ]
    return "\n".join(lines)


@click.command()
@click.option(
    "--networks", help="Names, separated by commas, timm's as timm:name; default: all of torchvision's; '': none."
)
@click.option("--positions", type=click.IntRange(min=1), default=256, show_default=True)
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True)
@click.option("--budget", type=float, default=60.0, show_default=True, help="Seconds of the dense form in one round.")
@click.option("--wall", is_flag=True, help="Wall time in place of processor time; for a machine without other work.")
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--csv", "path", type=click.Path(path_type=Path), required=True, help="File that rows are appended to.")
@click.option("--page", "document", type=click.Path(path_type=Path), help="Markdown file, made of all rows of the CSV.")
def main(
    networks: str | None,
    positions: int,
    rounds: int,
    budget: float,
    wall: bool,
    threads: int,
    path: Path,
    document: Path | None,
) -> None:
    import torchvision

    all_names = torchvision.models.list_models(torchvision.models)
    names = all_names if networks is None else existing(networks)
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    scale = Scale(positions, rounds, budget, time.perf_counter if wall else time.process_time)
    about: dict[str, object] = {
        "date": datetime.now(timezone.utc).isoformat(),
        "positions": positions,
        "rounds": rounds,
        "threads": threads,
    }
    about["clock"] = "wall" if wall else "processor"
    machine = {key: description()[key] for key in ("device", "torch", "commit")}
    for name in names:
        row = about | machine | measure(name, scale)
        network.cache_clear()
        click.echo("  ".join(f"{key} {row[key]}" for key in list(row)[8:]))
        append(path, row)
    if document is not None:
        with path.open(newline="") as file:
            document.write_text(page(list(csv.DictReader(file))))


if __name__ == "__main__":
    main()

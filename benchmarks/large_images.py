"""The edge grows with the image: sweeps of large images against the network itself, each case in a process of its own.

    python benchmarks/large_images.py --captum --csv benchmarks/results/large_images.csv --docs docs

Random positions of the grid run, and a few whole images in the faster of both memory formats; times are then those of
the whole grid, with the one clean pass of a sweep counted once. Processor time of one thread, medians of rounds in
turn. The peak is the most memory that the process ever had, network, images and all, until its sweeps were done. With
``--captum`` Captum's ``Occlusion`` runs as well, on sixteen positions.
"""

from __future__ import annotations

import csv
import multiprocessing
import statistics
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import click
import torch
from machine import description
from networks import existing, network
from records import append
from torch import Tensor, nn

from zfkernels.occlusion.arguments import grid
from zfkernels.occlusion.engine import WindowSweep
from zfkernels.occlusion.reduce import largest_probability
from zfkernels.occlusion.sweeper import Sweeper, Wanted
from zfkernels.occlusion.where import Where

NETWORKS = ("resnet50", "vgg16", "mobilenet_v2", "convnext_tiny", "unet")
SIZES = {512: (32, 16), 1024: (32, 16), 2048: (64, 32)}  # window, stride
FORMATS = (torch.contiguous_format, torch.channels_last)


class UNet(nn.Module):
    """Ronneberger's network with padding, for one map of probabilities.

    Args:
        width: maps of the first level; each of the four levels below has twice as many.
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(5)]
        self.down = nn.ModuleList(map(self._level, [3, *widths[:-1]], widths))
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * wide, wide, 2, 2) for wide in widths[-2::-1])
        self.merge = nn.ModuleList(self._level(2 * wide, wide) for wide in widths[-2::-1])
        self.last = nn.Conv2d(width, 1, 1)

    @staticmethod
    def _level(channels: int, width: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1), nn.ReLU()
        )

    def forward(self, x: Tensor) -> Tensor:
        levels = []
        for index, level in enumerate(self.down):
            x = level(nn.functional.max_pool2d(x, 2) if index else x)
            levels.append(x)
        for up, merge, beside in zip(self.up, self.merge, levels[-2::-1], strict=True):
            x = merge(torch.cat([beside, up(x)], 1))
        return self.last(x)


def model_of(name: str) -> tuple[nn.Module, Wanted]:
    """The network, and what is kept of its outputs."""
    torch.manual_seed(0)
    return (UNet().eval(), Wanted(reduce=largest_probability())) if name == "unet" else (network(name), Wanted())


def seconds(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def gigabytes() -> float:
    """The most memory that this process has had, as Linux counts it since the process started its program."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 2**20


@torch.no_grad()
def measure(name: str, side: int, count: int, rounds: int, captum: bool) -> dict[str, object]:
    """A row of the table."""
    torch.set_num_threads(1)
    model, wanted = model_of(name)
    image, (window, stride) = torch.randn(1, 3, side, side), SIZES[side]
    places = grid((side, side), (window, window), (stride, stride)).reshape(-1, 2)
    total, before = len(places), gigabytes()
    sweeper = Sweeper(model, Where((window, window), positions=places[torch.randperm(total)[:count]]), wanted)
    once = seconds(lambda: sweeper.sweep(image, 0.0))
    run = next(iter(sweeper.runs.values()))
    assert isinstance(run, WindowSweep)
    plan, times = run.plan(image.device, image.dtype), dict[object, list[float]]()
    for _ in range(rounds):
        times.setdefault("sweep", []).append(seconds(lambda: sweeper.sweep(image, 0.0)))
        times.setdefault("clean", []).append(seconds(lambda: run.clean(image)))
    peak = gigabytes()
    for _ in range(rounds):
        for memory_format in FORMATS:
            model, given = model.to(memory_format=memory_format), image.contiguous(memory_format=memory_format)
            times.setdefault(memory_format, []).append(seconds(lambda model=model, given=given: model(given)))
    middle = {key: statistics.median(found) for key, found in times.items()}
    dense = min(middle[memory_format] for memory_format in FORMATS) * total
    swept = middle["clean"] + (middle["sweep"] - middle["clean"]) / count * total
    row: dict[str, object] = {
        "network": name, "side": side, "window": window, "stride": stride, "positions": total, "run": count,
        "sweep_s": round(swept, 1), "dense_s": round(dense, 1), "ratio": round(dense / swept, 1),
        "saving": round(plan.dense / plan.exact, 1), "peak_gb": round(peak, 2), "before_gb": round(before, 2),
        "once_s": round(once - middle["sweep"], 2), "captum_s": "",
    }  # fmt: skip
    if captum:
        row["captum_s"] = round(captum_seconds(model.to(memory_format=torch.contiguous_format), image) * total, 1)
    return row


def captum_seconds(model: nn.Module, image: Tensor) -> float:
    """Seconds that Captum takes for one position; squares side by side, since it takes no larger steps."""
    from captum.attr import Occlusion

    side = image.shape[-1] // 4
    square = (image.shape[1], side, side)

    def run() -> None:
        Occlusion(model).attribute(image, square, square, target=0, perturbations_per_eval=4)

    return seconds(run) / 16


def draw(rows: list[dict[str, str]], path: Path) -> None:
    """The ratio over the side of the image, a line for each network; dashed: the saving of multiply-adds."""
    from zfkernels.viz.style import COLORS, GREY, new_figure, plain

    figure = new_figure(6.6, 3.6)
    axes = figure.subplots()
    for name, color in zip(dict.fromkeys(row["network"] for row in rows), COLORS, strict=False):
        points = sorted(
            (int(row["side"]), float(row["ratio"]), float(row["saving"])) for row in rows if row["network"] == name
        )
        sides, ratios, savings = zip(*points, strict=True)
        axes.plot(sides, ratios, "o-", color=color, label=name)
        axes.plot(sides, savings, "D--", color=color, linewidth=0.8, markersize=4, markerfacecolor="white")
    axes.plot([], [], "D--", color=GREY, linewidth=0.8, markersize=4, markerfacecolor="white",
              label="multiply-adds saved")  # fmt: skip
    axes.set(xscale="log", yscale="log")
    plain(axes, title="an occlusion sweep beside the network itself on every occluded image",
          x="side of the image, in pixels", y="times faster, or fewer multiply-adds")  # fmt: skip
    shown = sorted({int(row["side"]) for row in rows})
    axes.set_xticks(shown, [str(side) for side in shown])
    axes.minorticks_off()
    axes.set_yticks([2, 5, 10, 20, 50, 100], ["2", "5", "10", "20", "50", "100"])
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    figure.savefig(path, dpi=110)


def page(rows: list[dict[str, str]]) -> str:
    """The document that shows the rows."""
    first = rows[0]
    lines = [
        "# Large images", "",
        "You get: how the gain of an occlusion sweep grows with the image, in time and memory.", "",
        "A square of one size hides the same few cells in an image of any size. The network itself computes all cells. "
        "The larger the image, the larger the gain:", "",
        "![How many times faster than the network itself, over the side of the image](../large_images.png)", "",
        f"Dashed: the saving of multiply-adds. {first['device']}, torch {first['torch']}, float32, random weights, "
        f"processor time of one thread, beside other work; rounds: {first['rounds']}. A sample of random positions "
        "runs, and the network itself runs on one image at a time in the faster memory format. The table has times of "
        "the whole grid, scaled up from the sample, with the clean pass counted once. *Peak*: the most memory that the "
        "whole process takes, with Python, torch and the network. Captum's `Occlusion` runs on sixteen positions. The "
        "U-Net has 32 maps at the first of its five levels; its sweep keeps the largest probability of a frame. Where "
        "the gain is far above the saving, other work on the machine is a part of the reason: whole images are limited "
        "by memory, which all work shares.", "",
        "| network | side | square, stride | positions | network itself, s | sweep, s | faster | saving | peak, GB | "
        "Captum, s |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    lines += [
        f"| {row['network']} | {row['side']} | {row['window']}, {row['stride']} | {int(row['positions']):,} | "
        f"{row['dense_s']} | {row['sweep_s']} | {row['ratio']}x | {row['saving']}x | {row['peak_gb']} | "
        f"{row['captum_s'] or '-'} |"
        for row in rows
    ]
    return "\n".join(
        [
            *lines,
            "",
            "`python benchmarks/large_images.py --captum --csv FILE --docs docs` repeats it.",
            "",
            "## Next",
            "",
            "[Other people's networks](networks.md).",
            "",
        ]
    )


@click.command()
@click.option("--networks", default=",".join(NETWORKS), show_default=True, help="Names, separated by commas.")
@click.option("--sides", default=",".join(map(str, SIZES)), show_default=True, help="Sides of images.")
@click.option("--positions", type=click.IntRange(min=1), default=16, show_default=True, help="How many run.")
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True)
@click.option("--captum", is_flag=True, help="Run Captum as well (not for the U-Net, whose output is a map).")
@click.option("--csv", "path", type=click.Path(path_type=Path), required=True, help="File that rows are appended to.")
@click.option("--docs", type=click.Path(path_type=Path), help="Folder for the page and the chart of all rows.")
def main(networks: str, sides: str, positions: int, rounds: int, captum: bool, path: Path, docs: Path | None) -> None:
    about = {"date": datetime.now(timezone.utc).isoformat(), "rounds": rounds}
    machine = {key: description()[key] for key in ("device", "torch", "commit")}
    names = existing(networks, "unet")
    for side in filter(None, sides.split(",")):
        for name in names:
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                found = pool.apply(measure, (name, int(side), positions, rounds, captum and name != "unet"))
            row = about | machine | found
            click.echo("  ".join(f"{key} {found[key]}" for key in found))
            append(path, row)
    if docs is not None:
        with path.open(newline="") as file:
            rows = sorted(csv.DictReader(file), key=lambda row: int(row["side"]))
        draw(rows, docs / "large_images.png")
        (docs / "background" / "large_images.md").write_text(page(rows))


if __name__ == "__main__":
    main()

"""Sweeps and projections of the networks of whole collections, each against the slow truth, with what they save.

    python benchmarks/zoo.py --networks zoo.csv --out zoo-results.csv --size 96

``--networks`` is a CSV file with columns ``package`` and ``network`` (see :mod:`zoo_networks`; random weights).
Each network runs in a process of its own, in float64: a sweep of a few squares against the network run on each occluded
image alone, and a projection of a convolution in the middle against back-propagation with the DeconvNet's rule. A line
is written when it is known; a run that is broken off goes on where it stopped. Columns:

    size             of the images: ``--size``, or else the network's own
    saving_possible  multiply-adds of the network on whole images, over those of exact boxes as far as windows go
    saving_executed  the same over those that a sweep executes, counted operation by operation while it runs
    sweep, project   "right", "wrong by ...", "whole: " and the reason, or the error
    ends             what windows end at: the operation, and the share of all multiply-adds in front of it
    before           what became of the network in this package's first version, if the list of networks says so
    seconds          of the whole check

``--table docs/background/networks.md`` writes the tables of that page from the results.
"""

from __future__ import annotations

import contextlib
import csv
import multiprocessing
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

import zfkernels as zf
from zfkernels.network import UnrecordableError, record, tensors_of
from zfkernels.network import check as check_recording
from zfkernels.network.kinds import op_name
from zfkernels.network.recording import Ref
from zfkernels.occlusion import WindowSweep
from zfkernels.occlusion.plan import changed_boxes

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
import zoo_networks
import zoo_table
from support.backprop import projections, some_units

COLUMNS = (
    "package",
    "network",
    "size",
    "saving_possible",
    "saving_executed",
    "sweep",
    "project",
    "ends",
    "before",
    "seconds",
)
WINDOW, FILL, POSITIONS, UNITS = 16, 0.3, 6, 3
SWEEP_TOLERANCE, PROJECT_TOLERANCE = 1e-8, 1e-9  # of the largest effect, of the largest pixel


class Counter(TorchDispatchMode):
    """Multiply-adds of convolutions and matrix products, on windows and elsewhere, while they are executed."""

    def __init__(self) -> None:
        super().__init__()
        self.multiply_adds = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = str(func)
        if name.startswith(("zfkernels.window_", "zfkernels.occluded_")) and "conv" in name:
            weight = args[[argument.name for argument in func._schema.arguments].index("weight")]
            self.multiply_adds += out.shape[0] * weight.numel()
        elif name.startswith("mkldnn._convolution_pointwise"):  # float32 on a CPU, weights prepared
            self.multiply_adds += out.numel() * (args[1].numel() // args[1].shape[0])
        elif name.startswith("mkldnn._linear_pointwise"):
            self.multiply_adds += out.numel() * args[1].shape[1]
        elif func.overloadpacket in flop_registry and not out.is_meta:  # without numbers the planner counts
            self.multiply_adds += flop_registry[func.overloadpacket](*args, **(kwargs or {}), out_val=out) // 2
        return out


def relative(found: Tensor, expected: Tensor, scale: Tensor) -> float:
    """The largest error as a share of ``scale``'s largest value; one or both may be of no size."""
    return float((found - expected).abs().max() / scale.abs().max().clamp(min=1e-12)) if found.numel() else 0.0


@torch.no_grad()
def check_sweep(model: nn.Module, x: Tensor) -> tuple[str, float, float, str]:
    """What is wrong with a sweep, the saving that is possible, the one executed, and what windows end at."""
    generator = torch.Generator().manual_seed(1)
    places = torch.randint(0, x.shape[2] - WINDOW, (POSITIONS, 2), generator=generator)
    clean = tensors_of(model(x.clone()))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        with contextlib.suppress(UnrecordableError):  # the sweep finds that too; what it is checked by is not counted
            check_recording(record(model, x), x, x.roll((WINDOW, WINDOW), (2, 3)))
        with Counter() as executed:
            sweep = zf.occlusion_sweep(model, x, window=WINDOW, positions=places, fill=FILL)
    whole = [str(w.message) for w in said if "runs on whole images" in str(w.message)]
    worst = 0.0
    for index, (top, left) in enumerate(places.tolist()):
        hidden = x.clone()
        hidden[:, :, top : top + WINDOW, left : left + WINDOW] = FILL
        for found, expected, before in zip(tensors_of(sweep.outputs), tensors_of(model(hidden)), clean, strict=True):
            if found.is_floating_point():
                # An effect far below the numbers themselves has no more digits than they have.
                scale = torch.maximum((expected - before).abs().max(), 1e-6 * before.abs().max())
                worst = max(worst, relative(found[0, index], expected[0] if expected.dim() else expected, scale))
    verdict = "right" if worst <= SWEEP_TOLERANCE else f"wrong by {worst:.1e}"
    if whole:
        return f"whole: {whole[0].partition('whole images: ')[2]}; {verdict}", 1.0, 1.0, "nothing runs on them"
    planned = WindowSweep(record(model, x), torch.cat([places, torch.full_like(places, WINDOW)], 1))
    plan = planned.plan(x.device, x.dtype)
    with Counter() as dense:  # the clean pass, which every sweep begins with
        planned.program.run(x, planned.program.outputs)
    run = executed.multiply_adds - dense.multiply_adds
    saving = plan.dense / max(1, plan.exact), POSITIONS * dense.multiply_adds / max(1, run)
    return verdict, *saving, where_windows_end(planned)


def where_windows_end(sweep: WindowSweep) -> str:
    """The first operation that reads windows and makes none, and the share of multiply-adds in front of it."""
    changed, done, found = changed_boxes(sweep.program, sweep.squares), 0, "never"
    for kind in sweep.program.kinds.values():
        if found == "never" and kind.name not in changed and any(name in changed for name in kind.inputs):
            found, before = op_name(kind.step), done
        done += kind.multiply_adds * (kind.maps.frame[0] * kind.maps.frame[1] if kind.maps is not None else 1)
    return found if found == "never" else f"{found} {before / max(1, done):.2f}"


def check_projection(model: nn.Module, x: Tensor, place: float = 0.5) -> str:
    """What is wrong with projections of a convolution: the one in the middle, or at another share of their number."""
    layers = [path for path, module in model.named_modules() if isinstance(module, nn.Conv2d)]
    net = zf.DeconvNet(model)
    kinds, recording = net.network_at((x.shape[2], x.shape[3])).kinds, record(model, x)
    known = []
    for path in layers:
        returned = recording.layers.get(path)
        if f"{path}:1" not in recording.layers and isinstance(returned, Ref):
            kind = kinds.get(returned.name)
            known += [path] if kind is not None and kind.maps is not None and kind.maps.is_planar else []
    if not known:
        return "no convolution of maps"
    first = min(int(len(known) * place), len(known) - 1)
    values = net.forward(x, known[first:])
    layer = next(layer for layer in known[first:] if values.activations(layer).any())  # some are zero at first
    forward = net.forward(x, [layer])
    units = some_units(forward.activations(layer), UNITS)
    found, expected = forward.project(layer, units=units).dense(), projections(model, x, layer, units)
    worst = max(relative(a, b, b) for a, b in zip(found, expected, strict=True))
    return "right" if worst <= PROJECT_TOLERANCE else f"{layer} wrong by {worst:.1e}"


@torch.no_grad()
def fitting(model: nn.Module, sizes: tuple[int, ...]) -> Tensor:
    """An image of the first of ``sizes`` that the model takes."""
    for size in sizes:
        x = torch.randn(1, 3, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        try:
            model(x)
        except Exception as error:  # noqa: BLE001 - of a size that it does not take
            problem = error
        else:
            return x
    raise problem


def in_words(error: Exception) -> str:
    """An error on one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def check(package: str, network: str, size: int) -> dict[str, Any]:
    """A row of the table."""
    start = time.perf_counter()
    row: dict[str, Any] = {"package": package, "network": network, "size": size}
    try:
        model, sizes = zoo_networks.made(package, network, size)
        model = model.eval().double()
        x = fitting(model, sizes)
        row["size"] = x.shape[-1]
    except Exception as error:  # noqa: BLE001 - not made here
        return {**row, "sweep": f"not run: {in_words(error)}", "project": "not run"}
    try:
        row["sweep"], possible, executed, row["ends"] = check_sweep(model, x)
        row["saving_possible"], row["saving_executed"] = f"{possible:.2f}", f"{executed:.2f}"
    except Exception as error:  # noqa: BLE001 - any error is what is looked for
        row["sweep"] = in_words(error)
    try:
        row["project"] = check_projection(model, x)
    except Exception as error:  # noqa: BLE001 - any error is what is looked for
        row["project"] = in_words(error)
    return {**row, "seconds": f"{time.perf_counter() - start:.1f}"}


def in_process(package: str, network: str, size: int, limit: float) -> dict[str, Any]:
    """A row made in a process of its own, which has at most ``limit`` seconds and begins with what is imported here."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=lambda: theirs.send(check(package, network, size)))
    child.start()
    theirs.close()
    row: dict[str, Any] = {"package": package, "network": network, "size": size}
    if not ours.poll(limit):
        child.kill()
        row["sweep"] = f"more than {limit:.0f} s"
    else:
        try:
            row = ours.recv()
        except EOFError:
            child.join()
            row["sweep"] = f"ended with {child.exitcode}"
    child.join()
    return row


@click.command()
@click.option("--networks", type=click.Path(exists=True), help="CSV file with columns package and network.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("zoo-results.csv"), show_default=True)
@click.option("--size", type=int, default=96, show_default=True, help="Side of the images, in pixels.")
@click.option("--package", multiple=True, help="Only networks of this package.")
@click.option("--limit", type=float, default=120, show_default=True, help="Seconds for one network.")
@click.option("--seconds", type=float, default=None, help="No new network is begun after so many.")
@click.option("--one", nargs=2, default=None, help="Package and network: prints its row.")
@click.option("--table", type=click.Path(path_type=Path), default=None, help="Page whose tables are made of --out.")
def main(
    networks: str | None, out: Path, size: int, package: tuple[str, ...], limit: float, seconds: float | None,
    one: tuple[str, str] | None, table: Path | None,
) -> None:  # fmt: skip
    """Checks networks and prints a line for each."""
    torch.set_num_threads(1)
    if one is not None:
        csv.DictWriter(sys.stdout, COLUMNS).writerow(check(*one, size))
        return
    if table is not None:
        zoo_table.write(table, out)
        return
    if networks is None:
        raise click.UsageError("zoo: expected --networks, --one or --table")
    with open(networks, newline="", encoding="utf-8") as file:
        wanted = {(row["package"], row["network"]): row.get("today", "") for row in csv.DictReader(file)}
    known = set()
    if out.exists():
        with open(out, newline="", encoding="utf-8") as file:
            known = {(row["package"], row["network"]) for row in csv.DictReader(file)}
    else:
        out.write_text(",".join(COLUMNS) + "\n", encoding="utf-8")
    start = time.monotonic()
    for name, before in wanted.items():
        if name in known or (package and name[0] not in package):
            continue
        if seconds is not None and time.monotonic() - start > seconds:
            break
        with contextlib.suppress(ImportError):  # the row says so
            zoo_networks.load(name[0])
        row = in_process(*name, size, limit) | {"before": before}
        with open(out, "a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, COLUMNS).writerow(row)
        csv.DictWriter(sys.stdout, COLUMNS).writerow(row)
        sys.stdout.flush()


if __name__ == "__main__":
    main()

"""Sweeps and projections of the networks of whole collections, each against the slow truth, with what they save.

    python benchmarks/zoo.py --networks zoo.csv --out zoo-results.csv --size 96

``--networks`` is a CSV file with columns ``package`` and ``network`` (torchvision, timm, pytorchcv; random weights).
Each network runs in a process of its own, in float64: a sweep of a few squares against the network run on each occluded
image alone, and a projection of a convolution in the middle against back-propagation with the DeconvNet's rule. A line
is written when it is known; a run that is broken off goes on where it stopped. Columns:

    size             of the images: ``--size``, or what the network insists on
    saving_possible  multiply-adds of the network on whole images, over those of exact boxes as far as windows go
    saving_executed  the same over those that a sweep executes, counted operation by operation while it runs
    sweep, project   "right", "wrong by ...", "whole: " and the reason, or the error
    seconds          of the whole check
"""

from __future__ import annotations

import csv
import subprocess
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
from zfkernels.network import record, tensors_of
from zfkernels.occlusion import WindowSweep

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from backprop import projections, some_units

COLUMNS = ("package", "network", "size", "saving_possible", "saving_executed", "sweep", "project", "seconds")
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
        elif func.overloadpacket in flop_registry:
            self.multiply_adds += flop_registry[func.overloadpacket](*args, **(kwargs or {}), out_val=out) // 2
        return out


def made(package: str, network: str) -> tuple[nn.Module, int | None]:
    """A network with random weights, and the size of image that it insists on."""
    torch.manual_seed(0)
    if package == "torchvision":
        import torchvision

        return torchvision.models.get_model(network, weights=None, weights_backbone=None) if (
            "segmentation" in torchvision.models.get_model_builder(network).__module__
        ) else torchvision.models.get_model(network, weights=None), None  # fmt: skip
    if package == "timm":
        import timm

        model = timm.create_model(network, pretrained=False)
        fixed = model.default_cfg.get("fixed_input_size")
        return model, model.default_cfg["input_size"][-1] if fixed else None
    if package == "pytorchcv":
        from pytorchcv.model_provider import get_model

        return get_model(network, pretrained=False), None
    raise ValueError(f"zoo: expected package one of torchvision, timm, pytorchcv, got {package!r}")


def relative(found: Tensor, expected: Tensor, scale: Tensor) -> float:
    """The largest error as a share of ``scale``'s largest value; one or both may be of no size."""
    return float((found - expected).abs().max() / scale.abs().max().clamp(min=1e-12)) if found.numel() else 0.0


@torch.no_grad()
def check_sweep(model: nn.Module, x: Tensor) -> tuple[str, float, float]:
    """What is wrong with a sweep, the saving that is possible, and the one executed."""
    generator = torch.Generator().manual_seed(1)
    places = torch.randint(0, x.shape[2] - WINDOW, (POSITIONS, 2), generator=generator)
    clean = tensors_of(model(x.clone()))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        sweep = zf.occlusion_sweep(model, x, window=WINDOW, positions=places, fill=FILL)
        with Counter() as executed:
            zf.occlusion_sweep(model, x, window=WINDOW, positions=places, fill=FILL)
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
        return f"whole: {whole[0].partition('whole images: ')[2]}; {verdict}", 1.0, 1.0
    planned = WindowSweep(record(model, x), torch.cat([places, torch.full_like(places, WINDOW)], 1))
    plan = planned.plan(x.device, x.dtype)
    with Counter() as dense:  # the clean pass, which every sweep begins with
        planned.program.run(x, planned.program.outputs)
    run = executed.multiply_adds - dense.multiply_adds
    return verdict, plan.dense / max(1, plan.exact), POSITIONS * dense.multiply_adds / max(1, run)


def check_projection(model: nn.Module, x: Tensor) -> str:
    """What is wrong with projections of the convolution in the middle."""
    layers = [path for path, module in model.named_modules() if isinstance(module, nn.Conv2d)]
    net = zf.DeconvNet(model)
    kinds, recording = net.network_at((x.shape[2], x.shape[3])).kinds, record(model, x)
    known = []
    for path in layers:
        if f"{path}:1" not in recording.layers and path in recording.layers:
            kind = kinds.get(recording.resolve(path))
            known += [path] if kind is not None and kind.maps is not None and kind.maps.is_planar else []
    if not known:
        return "no convolution of maps"
    layer = known[len(known) // 2]
    forward = net.forward(x, [layer])
    units = some_units(forward.activations(layer), UNITS)
    found, expected = forward.project(layer, units=units).dense(), projections(model, x, layer, units)
    worst = max(relative(a, b, b) for a, b in zip(found, expected, strict=True))
    return "right" if worst <= PROJECT_TOLERANCE else f"{layer} wrong by {worst:.1e}"


def check(package: str, network: str, size: int) -> dict[str, Any]:
    """A row of the table."""
    start = time.perf_counter()
    torch.set_num_threads(1)
    row: dict[str, Any] = {"package": package, "network": network, "size": size}
    try:
        model, fixed = made(package, network)
        model = model.eval().double()
        row["size"] = size = fixed or size
        x = torch.randn(1, 3, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        model(x)
    except Exception as error:  # noqa: BLE001 - not made here
        return {**row, "sweep": f"not run: {type(error).__name__}: {error}", "project": "not run"}
    try:
        row["sweep"], possible, executed = check_sweep(model, x)
        row["saving_possible"], row["saving_executed"] = f"{possible:.2f}", f"{executed:.2f}"
    except Exception as error:  # noqa: BLE001 - any error is what is looked for
        row["sweep"] = f"{type(error).__name__}: {error}"
    try:
        row["project"] = check_projection(model, x)
    except Exception as error:  # noqa: BLE001 - any error is what is looked for
        row["project"] = f"{type(error).__name__}: {error}"
    return {**row, "seconds": f"{time.perf_counter() - start:.1f}"}


@click.command()
@click.option("--networks", type=click.Path(exists=True), help="CSV file with columns package and network.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("zoo-results.csv"), show_default=True)
@click.option("--size", type=int, default=96, show_default=True, help="Side of the images, in pixels.")
@click.option("--package", multiple=True, help="Only networks of this package.")
@click.option("--limit", type=float, default=120, show_default=True, help="Seconds for one network.")
@click.option("--seconds", type=float, default=None, help="No new network is begun after so many.")
@click.option("--one", nargs=2, default=None, help="Package and network: prints its row.")
def main(
    networks: str | None, out: Path, size: int, package: tuple[str, ...], limit: float, seconds: float | None,
    one: tuple[str, str] | None,
) -> None:  # fmt: skip
    """Checks networks and prints a line for each."""
    if one is not None:
        csv.DictWriter(sys.stdout, COLUMNS).writerow(check(*one, size))
        return
    if networks is None:
        raise click.UsageError("zoo: expected --networks or --one")
    with open(networks, newline="", encoding="utf-8") as file:
        wanted = [(row["package"], row["network"]) for row in csv.DictReader(file)]
    known = set()
    if out.exists():
        with open(out, newline="", encoding="utf-8") as file:
            known = {(row["package"], row["network"]) for row in csv.DictReader(file)}
    else:
        out.write_text(",".join(COLUMNS) + "\n", encoding="utf-8")
    start = time.monotonic()
    for name in wanted:
        if name in known or (package and name[0] not in package):
            continue
        if seconds is not None and time.monotonic() - start > seconds:
            break
        command = [sys.executable, __file__, "--one", *name, "--size", str(size)]
        try:
            ended = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False)
            last = ended.stderr.strip().splitlines()[-1:] or [""]
            line = ended.stdout.strip().splitlines()[-1] if ended.returncode == 0 else (
                f"{name[0]},{name[1]},{size},,,ended with {ended.returncode}: {last[0].replace(',', ';')},,"
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            line = f"{name[0]},{name[1]},{size},,,more than {limit:.0f} s,,"
        print(line, flush=True)
        with open(out, "a", encoding="utf-8") as file:
            file.write(line + "\n")


if __name__ == "__main__":
    main()

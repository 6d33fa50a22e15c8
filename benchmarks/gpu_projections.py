"""Projections of all maps of a network's convolutions on a GPU, against whole frames of PyTorch.

The path on whole frames costs the same for every unit of a layer: a sample of units runs, scaled up to all of them.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from full_frames import FullFrames
from gpu_clock import median, timed
from gpu_journal import Journal
from gpu_sweeps import PRECISIONS, TWICE, products, why_not
from networks import network
from torch import Tensor, nn

import zfkernels as zf

SAMPLE, COMPARED = 64, 8  # units of a layer on whole frames, and those that are compared with float64
DOWN = (
    "max_pool2d_with_switches", "unpool_relu_conv_transpose2d", "window_unpool_relu_conv_transpose2d", "window_gather",
)  # fmt: skip


@dataclass(frozen=True)
class ProjectionCase:
    """All maps of all convolutions of an nn.Sequential (``features``), each at its strongest place in each image."""

    model: str
    images: int
    size: int
    kernels: int

    @property
    def name(self) -> str:
        return f"projections/{self.model}-{self.size}-{self.images}-images"

    def seconds(self) -> int:
        """That a line should take on a GPU: an estimate, nobody has measured it."""
        return 15 + 2 * self.kernels


CASES = (ProjectionCase("alexnet", 9, 224, 8), ProjectionCase("vgg16", 9, 224, 12))
SMALL = (ProjectionCase("toy", 1, 12, 2),)


def run(case: ProjectionCase, backend: str, precision: str, device: str, rounds: int, journal: Journal) -> None:
    """A line: the rate of all projections, and that on whole frames."""
    reason, variant = why_not(DOWN, backend), f"{backend}/{precision}"
    if reason is not None:
        journal.say(case.name, variant, reason)
        return
    dtype, of_float32 = PRECISIONS[precision]
    model = features(case.model)
    images = torch.randn(case.images, 3, case.size, case.size, generator=torch.Generator().manual_seed(0))
    layers = [str(index) for index, module in enumerate(model) if isinstance(module, nn.Conv2d)]
    ours = whole = 0.0
    count, errors, frame_errors = 0, [], []
    with products(of_float32):
        mine, seen = _in(model, images, dtype, device)
        net = zf.DeconvNet(mine, backend=backend)
        exact = _in(model, images, torch.float64, device)
        for layer in layers:
            units = _units(net, seen, layer)
            chosen = units[torch.randperm(len(units), generator=torch.Generator().manual_seed(0)).to(device)]
            found = net.project(seen, layer, units=chosen[:COMPARED])
            corners = torch.zeros(len(found.windows), 2, dtype=torch.int64, device=device)
            truth = FullFrames(exact[0], int(layer), exact[1]).project(chosen[:COMPARED])
            errors.append(_error(found.windows.crops(corners, found.windows.frame), truth))
            frames = FullFrames(mine, int(layer), seen)
            frame_errors.append(_error(frames.project(chosen[:COMPARED]), truth))
            count += len(units)
            if not rounds:
                continue
            sample = chosen[:SAMPLE]
            timed(lambda units=units, layer=layer: net.project(seen, layer, units=units), device)
            ours += median(lambda units=units, layer=layer: net.project(seen, layer, units=units), device, rounds).wall
            timed(lambda frames=frames, sample=sample: frames.project(sample), device)
            taken = median(lambda frames=frames, sample=sample: frames.project(sample), device, rounds).wall
            whole += taken / len(sample) * len(units)
    worst, allowed = max(errors), TWICE * max(frame_errors) + torch.finfo(dtype).eps
    text = f"error {worst:.1e}, on whole frames {max(frame_errors):.1e}"
    figures = {"error": worst, "dense_error": max(frame_errors)}
    if not worst <= allowed:
        journal.say(case.name, variant, "FAILS", f"{text}, expected at most {allowed:.1e}", **figures)
        return
    if rounds:
        text = f"{ours * 1e3:9.1f} ms {count / ours:8.0f} projections/s, x{whole / ours:.2f} of whole frames, {text}"
        figures |= {"seconds": ours, "projections_s": count / ours, "speedup": whole / ours}
    journal.say(case.name, variant, "right", text, **figures)


def features(name: str) -> nn.Sequential:
    """Convolutions, rectifiers and pools of a network; "toy" takes an interpreter seconds."""
    if name != "toy":
        return network(name).features  # type: ignore[return-value]
    torch.manual_seed(0)
    parts = nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 6, 3, padding=1), nn.ReLU()
    return nn.Sequential(*parts).eval()


def _in(model: nn.Module, images: Tensor, dtype: torch.dtype, device: str) -> tuple[nn.Module, Tensor]:
    return copy.deepcopy(model).to(device, dtype), images.to(device, dtype)


def _units(net: zf.DeconvNet, images: Tensor, layer: str) -> Tensor:
    """int64 [N * C, 4]: each map at its strongest place in each image."""
    maps = net.forward(images, [layer]).activations(layer)
    place = maps.flatten(2).argmax(2).flatten()
    axes = [torch.arange(length, device=maps.device) for length in maps.shape[:2]]
    image, channel = (axis.flatten() for axis in torch.meshgrid(*axes, indexing="ij"))
    return torch.stack([image, channel, place // maps.shape[3], place % maps.shape[3]], 1)


def _error(found: Tensor, truth: Tensor) -> float:
    """Root mean square over that of the truth."""
    return float(((found.double() - truth).square().mean() / truth.square().mean()).sqrt())

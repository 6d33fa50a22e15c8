"""The first pass of a gallery over all convolutions on a GPU, images in memory, against the bare forward pass."""

from __future__ import annotations

import copy

import torch
from gpu_clock import median, timed
from gpu_journal import Journal
from gpu_sweeps import PRECISIONS, products, toy
from networks import network
from torch import Tensor, nn

from zfkernels.data import Batch
from zfkernels.gallery.checkpoint import Progress
from zfkernels.gallery.layers import select_layers
from zfkernels.gallery.sweep import Sweeper
from zfkernels.network.network import trace_model

TOP = 9
SECONDS = 25  # that a line should take on a GPU: an estimate, nobody has measured it
ROUNDING = 1e-3  # of a strongest activation: other algorithms of a library round otherwise, in tf32 that much


def run(name: str, size: int, batch: int, precision: str, device: str, rounds: int, journal: Journal) -> None:
    """A line: images/s of the sweep beside those of the forward pass."""
    dtype, of_float32 = PRECISIONS[precision]
    line = f"gallery/{name}-{size}"
    with products(of_float32):
        model = copy.deepcopy(toy() if name == "toy" else network(name)).to(device, dtype)
        images = torch.randn(4 * batch, 3, size, size, generator=torch.Generator().manual_seed(0))
        trace = trace_model(model, (size, size))
        layers = select_layers(trace, [info.name for info in trace.layer_info() if info.is_convolution])
        sweeper = Sweeper(trace, layers, TOP, batch)
        here = [part.to(device, dtype) for part in images.split(batch)]
        batches = [Batch(part, torch.arange(batch) + n * batch, [None] * batch, []) for n, part in enumerate(here)]

        def sweep() -> None:
            sweeper.reset()
            progress = Progress()
            for each in batches:
                sweeper.update(each, progress)

        sweep()
        found = sweeper.topks[0].compute().values[:, 0]
        expected = _strongest(model, here)
        error = float((found - expected).abs().max() / expected.abs().max())
        if not error <= ROUNDING + 4 * torch.finfo(dtype).eps:
            journal.say(line, precision, "FAILS", f"strongest activations are {error:.1e} away", error=error)
            return
        text = f"strongest activations {error:.1e} away"
        figures: dict[str, float] = {"error": error}
        if rounds:
            bare = min(_bare(model, here, device, rounds, memory_format) for memory_format in (
                torch.contiguous_format, torch.channels_last,
            ))  # fmt: skip
            taken = median(sweep, device, rounds).wall
            rate = len(images) / taken
            figures |= {"seconds": taken, "images_s": rate, "speedup": bare / taken}
            text = f"{rate:8.0f} images/s, x{bare / taken:.2f} of the bare forward pass, {text}"
    journal.say(line, precision, "right", text, **figures)


def _bare(
    model: nn.Module, batches: list[Tensor], device: str, rounds: int, memory_format: torch.memory_format
) -> float:
    """Seconds of the forward pass over all batches."""
    model = copy.deepcopy(model).to(memory_format=memory_format)

    def forward() -> None:
        for images in batches:
            model(images.contiguous(memory_format=memory_format))

    timed(forward, device)
    return median(forward, device, rounds).wall


def _strongest(model: nn.Module, batches: list[Tensor]) -> Tensor:
    """float64 [C], on the CPU: the largest activation of each map of the first convolution."""
    first = next(module for module in model.modules() if isinstance(module, nn.Conv2d))
    return torch.stack([first(images).amax((0, 2, 3)) for images in batches]).amax(0).double().cpu()

"""What bfloat16 saves in an occlusion sweep, and what it costs: float32 and bfloat16 sweeps of the same images in turn.

    python benchmarks/bfloat16.py --model squeezenet1_1 --weights squeezenet1_1.pt --data photos --images 24

Prints the median ratio of their times, and of the probabilities at all positions the differences and how often the most
probable class, the argmax map, is the same; of the outputs themselves the distance, beside what the square changes,
which says something with fresh weights too (``--weights none``). Only processors with AVX512-BF16 or AMX multiply
bfloat16 faster than float32; the differences hardly depend on the processor. Local response normalization is not there
in bfloat16.
"""

from __future__ import annotations

import statistics
import time
from itertools import islice

import click
import torch
from machine import description
from torch import Tensor, nn

import zfkernels as zf
from zfkernels.cli import options
from zfkernels.data import stream


def swept(model: nn.Module, image: Tensor, window: int, stride: int, precision: str) -> tuple[Tensor, Tensor, float]:
    """Outputs [P, classes], those of the clean image, and seconds."""
    start = time.perf_counter()
    found = zf.occlusion_sweep(model, image, window=window, stride=stride, fill="mean", precision=precision)
    return found.outputs.float().flatten(0, -2), found.clean.float(), time.perf_counter() - start


def length(outputs: Tensor) -> float:
    """The root mean square."""
    return float(outputs.square().mean().sqrt())


@click.command()
@options.model_options(default="squeezenet1_1")
@click.option("--data", default="embedded", show_default=True, help="Images: folder, archive or embedded.")
@click.option("--images", type=click.IntRange(min=1), default=24, show_default=True, help="How many of them.")
@click.option(
    "--window", type=click.IntRange(min=1), default=16, show_default=True, help="Side of the square, in pixels."
)
@click.option(
    "--stride", type=click.IntRange(min=1), default=8, show_default=True, help="Step of the square, in pixels."
)
def main(
    model: str, weights: str, device: str, backend: str | None, data: str, images: int, window: int, stride: int
) -> None:
    network, preprocess = options.load_model(model, weights, device)
    source = options.open_data(data, None)
    batches = stream(source, preprocess, ids=list(islice(source.order, images)), batch_size=1, workers=0)
    ratios, largest, of_class, same, spread, far = [], [], [], [], [], []
    with options.use_backend(backend):
        for batch in batches:
            for image in batch.images.to(device).split(1):
                outputs, clean, seconds = swept(network, image, window, stride, "float32")
                near, _, fewer = swept(network, image, window, stride, "bfloat16")
                exact, rounded = outputs.softmax(-1), near.softmax(-1)
                far.append(length(outputs - near) / length(outputs - clean))
                said = exact.mean(0).argmax()
                ratios.append(seconds / fewer)
                largest.append(float((exact - rounded).abs().max()))
                of_class.append(float((exact - rounded)[:, said].abs().mean()))
                spread.append(float(exact[:, said].max() - exact[:, said].min()))
                same.append(float((exact.argmax(-1) == rounded.argmax(-1)).float().mean()))
    if not ratios:
        raise click.ClickException(f"bfloat16: expected images in {data}, got none")
    name = "AVX512-BF16" if torch.cpu._is_avx512_bf16_supported() else "no AVX512-BF16"
    name += ", AMX" if torch.cpu._is_amx_tile_supported() else ", no AMX"
    click.echo(f"{model}, {len(ratios)} images, window {window}, stride {stride}; {description()['device']} ({name})")
    click.echo(f"bfloat16 is {statistics.median(ratios):.2f} times as fast (median of an image's two sweeps)")
    click.echo(
        f"probability of the image's class: {statistics.mean(of_class):.4f} off on average, where the square moves it "
        f"by {statistics.mean(spread):.2f}; any probability: {max(largest):.3f} off at most, in the median image "
        f"{statistics.median(largest):.3f} at most"
    )
    click.echo(f"outputs: {statistics.median(far):.3f} of what the square changes off, root mean squares, median image")
    click.echo(f"argmax map: the same class at {statistics.mean(same):.1%} of all positions; least: {min(same):.1%}")


if __name__ == "__main__":
    main()

"""Certification by pairs of masks (examples/certification.py) against the network itself on every masked image.

    python benchmarks/certify.py --weights squeezenet1_1_imagenet.pt --data ccby64 --csv benchmarks/results/certify.csv

All pairs of ``masks`` x ``masks`` squares that together hide every patch. A few photos at a time, both computations run
in turn, in processor time on one thread. Their verdicts must be equal, pair by pair, but where the network's own two
largest outputs are closer than rounding. Dense: channels last, batches of 16, each pair once.
"""

from __future__ import annotations

import importlib.util
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import click
import torch
from machine import description
from records import append
from torch import Tensor, nn

from zfkernels.data import open_source
from zfkernels.models import get_model, get_preprocess

EXAMPLE = Path(__file__).parent.parent / "examples" / "certification.py"
BATCH, TOGETHER, CLOSE = 16, 8, 1e-3


def example() -> Any:
    spec = importlib.util.spec_from_file_location("certification", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@torch.no_grad()
def dense(model: nn.Module, image: Tensor, places: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """bool [masks, masks], whether the answer changes, and whether it is a matter of rounding."""
    first, second = torch.triu_indices(len(places), len(places))
    clean = model(image[None]).argmax()
    outputs = []
    for pairs in torch.stack([first, second], 1).split(BATCH):
        batch = image.expand(len(pairs), -1, -1, -1).contiguous(memory_format=torch.channels_last)
        for masked, pair in zip(batch, pairs.tolist(), strict=True):
            for row, column in places[pair].tolist():
                masked[:, row : row + width, column : column + width] = 0
        outputs.append(model(batch))
    scores = torch.cat(outputs)
    top = scores.topk(2).values
    changed, close = (torch.zeros(len(places), len(places), dtype=torch.bool) for _ in range(2))
    changed[first, second] = changed[second, first] = scores.argmax(1) != clean
    close[first, second] = close[second, first] = top[:, 0] - top[:, 1] < CLOSE
    return changed, close


@click.command()
@click.option("--weights", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--data", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--limit", type=click.IntRange(min=1), default=64, show_default=True, help="Photos.")
@click.option("--patch", type=click.IntRange(min=1), default=16, show_default=True, help="Pixels.")
@click.option("--masks", type=click.IntRange(min=2), default=4, show_default=True, help="On each axis.")
@click.option("--csv", "path", type=click.Path(path_type=Path), help="File that a row is appended to.")
def main(weights: Path, data: Path, limit: int, patch: int, masks: int, path: Path | None) -> None:
    torch.set_num_threads(1)
    module, model = example(), get_model("squeezenet1_1", weights=weights)
    whole = get_model("squeezenet1_1", weights=weights).to(memory_format=torch.channels_last)
    source, preprocess = open_source(data), get_preprocess("squeezenet1_1")
    photos = min(limit, len(source.keys))
    times, certified, equal = [0.0, 0.0], 0, 0
    for first in range(0, photos, TOGETHER):
        numbers = range(first, min(first + TOGETHER, photos))
        images = torch.stack([preprocess(source.load(number)[0]) for number in numbers])
        start = time.process_time()
        found = module.changes_of_mind(model, images, patch, masks)
        middle = time.process_time()
        truth = [dense(whole, image, *module.masks(images.shape[-1], patch, masks)) for image in images]
        times = [times[0] + middle - start, times[1] + time.process_time() - middle]
        certified += int((~found.flatten(1).any(1)).sum())
        equal += sum(torch.equal(own | close, other | close) for own, (other, close) in zip(found, truth, strict=True))
        click.echo(f"{numbers.stop} photos: {certified} certified, {equal} equal, {times[0]:.1f} s, {times[1]:.1f} s")
    row = {
        "date": datetime.now(timezone.utc).isoformat(),
        **{key: description()[key] for key in ("device", "torch", "commit")},
        "photos": photos, "patch": patch, "masks": masks**2, "certified": certified, "equal_verdicts": equal,
        "pairs_cpu_s": round(times[0], 1), "dense_cpu_s": round(times[1], 1), "ratio": round(times[1] / times[0], 2),
    }  # fmt: skip
    if path is not None:
        append(path, row)


if __name__ == "__main__":
    main()

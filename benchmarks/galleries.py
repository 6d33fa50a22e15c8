"""Galleries of three kinds of data, with all maxima: digits of one channel, a toy of 12 bands, photos by labels.

    python benchmarks/galleries.py --out galleries --photos caltech-101.zip --weights squeezenet1_1_imagenet.pt

The first two networks are trained here in a minute, with fixed seeds. Prints what each gallery took, as JSON lines.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from zfkernels.data import open_source
from zfkernels.gallery import build_gallery
from zfkernels.models import get_model

EPOCHS, BATCH = 12, 64
BANDS, CLASSES = 12, 4
LAYERS = {"squeezenet1_1": ("features.1", "features.4.expand3x3_activation", "features.12.expand3x3_activation")}


def small(channels: int, classes: int) -> nn.Sequential:
    """Two convolutions, each with a rectifier and a pooling, and a classifier."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(channels, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(32, classes),
    )  # fmt: skip


def trained(model: nn.Sequential, images: Tensor, labels: Tensor) -> float:
    """Trains a network and returns the share of the images that it then names rightly."""
    torch.manual_seed(1)
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(images)).split(BATCH):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images[rows]), labels[rows]).backward()
            optimizer.step()
    model.eval()
    with torch.no_grad():
        return float((model(images).argmax(1) == labels).double().mean())


def digits(folder: Path) -> tuple[nn.Module, Path, float]:
    """Scikit-learn's digits, 8x8, enlarged to 16x16, with values from 0 to 1."""
    from sklearn.datasets import load_digits

    data = load_digits()
    images = torch.from_numpy(data.images.astype(np.float32) / 16)[:, None]
    images = nn.functional.interpolate(images, (16, 16), mode="bilinear")
    np.savez(folder / "digits.npz", images=images[:, 0].numpy(), labels=data.target)
    model = small(1, 10)
    return model, folder / "digits.npz", trained(model, images, torch.from_numpy(data.target))


def bands(folder: Path) -> tuple[nn.Module, Path, float]:
    """Squares on noise of 12 bands, each class bright in three bands of its own; values like those of reflectances."""
    generator = torch.Generator().manual_seed(2)
    labels = torch.arange(600) % CLASSES
    images = torch.rand(600, BANDS, 24, 24, generator=generator) * 0.2
    for n, label in enumerate(labels.tolist()):
        top, left = torch.randint(0, 14, (2,), generator=generator).tolist()
        images[n, 3 * label : 3 * label + 3, top : top + 10, left : left + 10] += 0.6
    names = np.array([f"bands {3 * n} to {3 * n + 2}" for n in range(CLASSES)])
    np.savez(folder / "bands.npz", images=images.numpy(), labels=names[labels.numpy()])
    model = small(BANDS, CLASSES)
    return model, folder / "bands.npz", trained(model, images, labels)


def report(name: str, gallery: Any, seconds: float, **facts: Any) -> None:
    info = gallery.info
    found = {"gallery": name, "images": info["data"]["images"], "seconds": round(seconds, 1), **facts,
             "spent": info["spent"], "peak_memory_bytes": info["peak_memory_bytes"]}  # fmt: skip
    print(json.dumps(found), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--photos", help="Photos in folders or an archive, by label.")
    parser.add_argument("--weights", type=Path, help="Of squeezenet1_1.")
    parser.add_argument("--limit", type=int, default=1000)
    arguments = parser.parse_args()
    (arguments.out / "data").mkdir(parents=True, exist_ok=True)
    shown: dict[str, dict[str, Any]] = {"digits": {}, "bands": {"show": (1, 4, 7)}}
    for name, make in (("digits", digits), ("bands", bands)):
        model, data, share = make(arguments.out / "data")
        start = time.process_time()
        gallery = build_gallery(
            model, data, layers=["1", "4"], out=arguments.out / name, maxima=True, title=name, workers=0,
            progress=False, **shown[name],
        )  # fmt: skip
        report(name, gallery, time.process_time() - start, named_rightly=round(share, 3))
    if arguments.photos:
        source = open_source(arguments.photos)
        source.limit(arguments.limit)
        model = get_model("squeezenet1_1", arguments.weights)
        start = time.process_time()
        gallery = build_gallery(
            model, source, layers=LAYERS["squeezenet1_1"], out=arguments.out / "photos", maxima=True,
            title="squeezenet1_1", workers=0, progress=False,
        )  # fmt: skip
        report("photos", gallery, time.process_time() - start)


if __name__ == "__main__":
    main()

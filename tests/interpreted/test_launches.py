"""A projection batch or a sweep is one launch per layer and group of positions, none per position."""

from __future__ import annotations

from collections import Counter

import strict
import torch
from torch import nn

import zfkernels as zf


def small() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 6, 3, padding=1), nn.ReLU(),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(6 * 9, 5),
    ).eval()  # fmt: skip


def test_projections_launch_once_for_each_layer() -> None:
    model, images = small(), torch.randn(2, 3, 12, 12)
    counts = []
    for channels in (1, 4):
        with strict.watch() as launches, zf.use_backend("triton"):
            zf.DeconvNet(model).project(images, layer="4", channels=list(range(channels)))
        counts.append(Counter(launch.kernel for launch in launches)["stage_kernel"])
    assert counts[0] == counts[1] == 2  # two convolutions, whatever the number of projections


def test_a_sweep_launches_for_groups_and_not_for_positions() -> None:
    model, image = small(), torch.randn(1, 3, 12, 12)
    few, many = [torch.tensor([(row, column) for row in range(4, 4 + n) for column in range(4, 4 + n)]) for n in (1, 2)]
    counts = []
    for positions in (few, many):
        with strict.watch() as launches, zf.use_backend("triton"):
            zf.occlusion_sweep(model, image, window=2, positions=positions)
        counts.append(Counter(launch.kernel for launch in launches))
    for count, positions in zip(counts, (few, many), strict=True):
        assert 1 <= count["occluded_conv_kernel"] <= len(positions)
    assert sum(counts[1].values()) <= 4 * sum(counts[0].values())

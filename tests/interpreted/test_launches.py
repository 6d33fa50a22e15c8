"""A batch of projections is one launch per layer, none per projection."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from support import strict
from torch import nn

import zfkernels as zf


def small() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 6, 3, padding=1), nn.ReLU(),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(6 * 9, 5),
    ).eval()  # fmt: skip


@pytest.mark.parametrize(("images", "channels"), [(1, 1), (2, 4)])
def test_projections_launch_once_for_each_layer(images: int, channels: int) -> None:
    with strict.watch() as launches, zf.use_backend("triton"):
        zf.DeconvNet(small()).project(torch.randn(images, 3, 12, 12), layer="4", channels=list(range(channels)))
    counts = Counter(launch.kernel for launch in launches)
    assert counts["window_stage_kernel"] == 2  # two convolutions, whatever the number of projections
    assert sum(counts.values()) <= 6

"""A batch of projections is one launch per layer, none per projection; a launch is on its tensors' device."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from support import strict
from torch import nn

import zfkernels as zf
from zfkernels.ops import _triton_launch


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


def test_a_kernel_is_launched_on_the_device_of_its_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Triton takes the current device's current stream: that device has to be the tensors' own meanwhile."""
    current: list[torch.Tensor] = []
    launched: list[tuple[object, ...]] = []

    @contextlib.contextmanager
    def device_of(tensor: torch.Tensor) -> Iterator[None]:
        current.append(tensor)
        yield
        current.pop()

    class Kernel:
        def __getitem__(self, grid: tuple[int, ...]) -> Any:
            return lambda *args: launched.append((grid, *current, *args))

    monkeypatch.setattr(torch.cuda, "device_of", device_of)
    like = torch.ones(1)
    _triton_launch.launch(Kernel(), (2, 1), like, "argument")
    assert launched == [((2, 1), like, "argument")]
    assert current == []
    _triton_launch.launch(Kernel(), (0, 1), like, "argument")
    assert len(launched) == 1

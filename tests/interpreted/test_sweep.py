"""A sweep on Triton kernels from end to end, every access of memory checked."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from support import strict
from torch import Tensor, nn

from zfkernels.network.record import record
from zfkernels.occlusion.cost import Rates
from zfkernels.occlusion.engine import WindowSweep

ON_WINDOWS = Rates(windows=1e30, frames=1.0, memory=1e30, call=0.0, budget=2**26)  # windows cost nothing
LAUNCHED = {
    "occluded_conv_kernel": 1, "window_max_pool_kernel": 1, "window_conv_kernel": 2,
    "window_depthwise_kernel": 1, "window_avg_pool_kernel": 1, "window_reduce_kernel": 1,
}  # fmt: skip


class Small(nn.Module):
    """One of each step that runs on windows."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.one, self.other = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.grouped, self.last = nn.Conv2d(16, 12, 3, padding=1, groups=2), nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        h = nn.functional.max_pool2d(self.stem(x).relu(), 3, 1, 1)
        h = torch.cat([h + self.one(h).relu(), self.other(h)], 1)
        return self.last(nn.functional.avg_pool2d(self.grouped(h), 2).mean((2, 3)))


def run(sweep: WindowSweep, images: Tensor, batch_size: int | None = None) -> Tensor:
    return sweep(images, torch.tensor([0.3, -0.2, 0.5]), batch_size=batch_size).outputs


@pytest.mark.parametrize("batch_size", [None, 7])
def test_a_sweep_is_that_of_the_reference_and_launches_once_for_each_step(batch_size: int | None) -> None:
    model, images = Small().eval(), torch.randn(2, 3, 21, 18)
    starts = torch.cartesian_prod(torch.arange(-2, 21, 6), torch.arange(-1, 18, 6))
    boxes = torch.cat([starts, torch.tensor([6, 5]).expand(len(starts), 2)], 1)
    recording = record(model, images)
    expected = run(WindowSweep(recording, boxes, rates=ON_WINDOWS, backend="reference"), images)
    sweep = WindowSweep(recording, boxes, rates=ON_WINDOWS, backend="triton")
    with strict.watch() as launches:
        found = run(sweep, images, batch_size)
    effect = (expected - model(images)[:, None]).abs().max()
    assert (found - expected).abs().max() <= 1e-4 * effect
    chunks = -(-2 * len(boxes) // (batch_size or 2 * len(boxes)))
    counts = Counter(launch.kernel for launch in launches)
    assert counts.pop("gather_kernel", 0) <= 4 * chunks  # additions and concatenations of other boxes
    assert counts == {kernel: count * chunks for kernel, count in LAUNCHED.items()}

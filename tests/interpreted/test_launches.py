"""A projection batch or a sweep is one launch per layer and group of positions, none per position."""

from __future__ import annotations

from collections import Counter

import pytest
import strict
import torch
from torch import nn

import zfkernels as zf
from zfkernels.methods import incremental
from zfkernels.plan.sweep import SweepPlan


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
    assert counts["stage_kernel"] == 2  # two convolutions, whatever the number of projections
    assert sum(counts.values()) <= 6


def sweep(monkeypatch: pytest.MonkeyPatch, side: int, batch_size: int | None) -> tuple[SweepPlan, Counter[str]]:
    """A sweep of side x side positions in the middle and at the border of an image: its plan and its launches."""
    plans: list[SweepPlan] = []
    original = incremental.plan_sweep

    def plan_sweep(*args: object) -> SweepPlan:
        plans.append(original(*args))  # type: ignore[arg-type]
        return plans[-1]

    monkeypatch.setattr(incremental, "plan_sweep", plan_sweep)
    start = 12 // side
    positions = torch.cartesian_prod(torch.arange(side), torch.arange(side)) * start % 11
    with strict.watch() as launches, zf.use_backend("triton"):
        zf.occlusion_sweep(
            small(), torch.randn(1, 3, 12, 12), window=2, positions=positions, batch_size=batch_size
        )  # fmt: skip
    (plan,) = plans
    return plan, Counter(launch.kernel for launch in launches)


def assert_grouped(plan: SweepPlan, counts: Counter[str]) -> None:
    """One launch per layer for all positions of a group; the clean pass takes none that is counted here."""
    layers = {"occluded_conv_kernel": 1, "window_conv_kernel": 1, "window_max_pool_kernel": 2}
    assert counts["occluded_conv_kernel"] == len(plan.groups)
    for kernel, of_network in layers.items():
        assert counts[kernel] <= of_network * len(plan.groups)
    assert set(counts) <= set(layers)


def test_a_sweep_launches_for_groups_and_not_for_positions(monkeypatch: pytest.MonkeyPatch) -> None:
    plan, counts = sweep(monkeypatch, 6, None)
    assert len(plan.positions) == 36 > 2 * len(plan.groups)
    assert_grouped(plan, counts)


def test_a_loop_over_positions_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    plan, counts = sweep(monkeypatch, 4, 1)
    assert counts["occluded_conv_kernel"] == len(plan.positions)
    with pytest.raises(AssertionError):
        assert_grouped(plan, counts)

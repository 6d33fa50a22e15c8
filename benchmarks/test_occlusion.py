"""Occlusion sweeps against running the whole network on every occluded image, and against Captum.

The positions are a fixed sample of the grid (seed 0), stated in each group's name. The baselines' cost is the same for
every position and window: dense PyTorch runs the first few positions, Captum a coarse whole grid (it takes no others),
and their times are scaled up to all positions.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import ceil
from typing import Any

import pytest
import torch
from networks import channels_last, dense_occlusion, network
from rounds import Race, Work, replay, replay_timer, run_race
from torch import Tensor

import zfkernels as zf
from zfkernels.network import record
from zfkernels.occlusion.arguments import grid
from zfkernels.occlusion.engine import WindowSweep

pytestmark = pytest.mark.benchmark(timer=replay_timer)

DENSE = ("dense-nchw", "dense-channels_last")
CONTENDERS = ("zfkernels", *DENSE, "captum")
BATCH = 32  # of the baselines
CAPTUM_GRID = 7  # positions a side, at most: Captum takes whole grids only


@dataclass(frozen=True)
class Case:
    model: str
    window: int
    stride: int
    sample: int  # positions of the grid
    size: int = 224
    region: int | None = None  # the sides of the square in the middle that positions are in; None: the whole image
    rounds: int = 3

    @property
    def group(self) -> str:
        where = f"stride{self.stride}" + (f"-in{self.region}" if self.region else "")
        return f"occlusion-{self.model}-{self.size}-window{self.window}-{where}-{self.sample}-float32"

    def positions(self) -> Tensor:
        region = self.region or self.size
        every = grid((region, region), (self.window, self.window), (self.stride, self.stride)).reshape(-1, 2)
        order = torch.randperm(len(every), generator=torch.Generator().manual_seed(0))
        return every[order[: self.sample]] + (self.size - region) // 2


CASES = (
    Case("vgg16", 16, 4, 256, rounds=2),
    Case("squeezenet1_0", 16, 4, 512),
    Case("zfnet", 16, 4, 512),
    Case("alexnet", 16, 4, 512),
    Case("resnet18", 16, 4, 2809, rounds=2),  # the whole grid
    Case("inception_v3", 16, 4, 128, size=299, rounds=2),
    Case("vgg16", 32, 8, 128, rounds=2),
    Case("squeezenet1_0", 32, 8, 256),
    Case("zfnet", 32, 8, 256),
    Case("alexnet", 32, 8, 256),
    Case("resnet18", 32, 8, 256),
    Case("inception_v3", 32, 8, 128, size=299, rounds=2),
    Case("vgg16", 16, 1, 128, region=64, rounds=2),
    Case("squeezenet1_0", 16, 1, 256, region=64),
    Case("zfnet", 16, 1, 256, region=64),
    Case("alexnet", 16, 1, 256, region=64),
    Case("resnet18", 16, 1, 256, region=64),
    Case("inception_v3", 16, 1, 128, size=299, region=64, rounds=2),
)


@cache
def race(case: Case) -> Race:
    model, positions = network(case.model), case.positions()
    few = positions[: BATCH if case.model == "vgg16" else 2 * BATCH]

    def image(turn: int) -> Tensor:
        return torch.randn(1, 3, case.size, case.size, generator=torch.Generator().manual_seed(turn))

    def ours(image: Tensor) -> Tensor:
        return zf.occlusion_sweep(model, image, window=case.window, positions=positions).outputs[0]

    def close(name: str, result: Tensor, expected: Tensor) -> None:
        if name in DENSE:
            assert (result - expected[: len(few)]).abs().max() <= 1e-4 * expected.abs().max()

    contenders: dict[str, Any] = {
        "zfkernels": ours,
        "dense-nchw": lambda x: dense_occlusion(model, x, few, case.window, torch.contiguous_format, BATCH),
        "dense-channels_last": lambda x: dense_occlusion(
            channels_last(case.model), x, few, case.window, torch.channels_last, BATCH
        ),
    }
    captum = pytest.importorskip("captum.attr").Occlusion(channels_last(case.model))  # its faster format
    side = ceil(case.size / CAPTUM_GRID)
    contenders["captum"] = lambda x: captum.attribute(
        x, (3, side, side), target=0, perturbations_per_eval=BATCH, strides=(3, side, side)
    )
    scale = dict.fromkeys(DENSE, len(positions) / len(few)) | {
        "zfkernels": 1,
        "captum": len(positions) / CAPTUM_GRID**2,
    }
    times = run_race(contenders, image, close, case.rounds).times
    return Race({name: [t * scale.get(name, 1) for t in each] for name, each in times.items()})


@pytest.mark.parametrize("contender", CONTENDERS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.group)
def test_occlusion(benchmark: Any, case: Case, contender: str) -> None:
    positions = case.positions()
    boxes = torch.cat([positions, torch.full_like(positions, case.window)], 1)
    sweep = WindowSweep(record(network(case.model), (3, case.size, case.size)), boxes)
    plan = sweep.plan(torch.device("cpu"), torch.float32)
    times = race(case)
    ours = contender == "zfkernels"
    bound = plan.dense / plan.exact
    best = times.ratio(min(DENSE, key=times.median), "zfkernels")
    shares = {"share_of_bound": best / bound, "speedup_over_captum": times.ratio("captum", "zfkernels")}
    replay(
        benchmark, times, contender, case.group, baselines=DENSE, work=Work(plan.exact if ours else plan.dense),
        positions=len(positions), bound=bound, **(shares if ours else {}),
    )  # fmt: skip

"""Occlusion sweeps against running the whole network on every occluded image, and against Captum.

The positions are a fixed sample of the grid (seed 0), stated in each group's name.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import torch
from networks import channels_last, dense_occlusion, network
from rounds import Race, Work, replay, replay_timer, run_race
from torch import Tensor

import zfkernels as zf
from zfkernels.methods.occlusion import grid
from zfkernels.plan import plan_sweep
from zfkernels.trace import fold, trace_model

pytestmark = pytest.mark.benchmark(timer=replay_timer)

DENSE = ("dense-nchw", "dense-channels_last")
CONTENDERS = ("zfkernels", *DENSE, "captum")
CAPTUM_AT_ONCE = 32


@dataclass(frozen=True)
class Case:
    model: str
    window: int
    stride: int
    sample: int | None  # positions of the grid; None: all
    size: int = 224
    rounds: int = 3

    @property
    def group(self) -> str:
        count = "all" if self.sample is None else str(self.sample)
        return f"occlusion-{self.model}-{self.size}-window{self.window}-stride{self.stride}-{count}-float32"

    def positions(self) -> Tensor:
        every = grid((self.size, self.size), (self.window, self.window), (self.stride, self.stride)).reshape(-1, 2)
        if self.sample is None:
            return every
        return every[torch.randperm(len(every), generator=torch.Generator().manual_seed(0))[: self.sample]]


CASES = (
    Case("vgg16", 16, 16, 49),
    Case("alexnet", 32, 8, None),
    Case("vgg16", 16, 4, 256, rounds=2),
    Case("squeezenet1_0", 16, 4, 512),
    Case("zfnet", 16, 4, 512),
    Case("alexnet", 16, 4, 512),
    Case("resnet18", 16, 4, 512),
    Case("inception_v3", 16, 4, 128, size=299, rounds=2),
)


@cache
def race(case: Case) -> Race:
    model, positions = network(case.model), case.positions()

    def image(turn: int) -> Tensor:
        return torch.randn(1, 3, case.size, case.size, generator=torch.Generator().manual_seed(turn))

    def ours(image: Tensor) -> Tensor:
        return zf.occlusion_sweep(model, image, window=case.window, positions=positions).outputs[0]

    def close(name: str, result: Tensor, expected: Tensor) -> None:
        assert name == "captum" or (result - expected).abs().max() <= 1e-4 * expected.abs().max()

    contenders: dict[str, Any] = {
        "zfkernels": ours,
        "dense-nchw": lambda x: dense_occlusion(model, x, positions, case.window, torch.contiguous_format),
        "dense-channels_last": lambda x: dense_occlusion(
            channels_last(case.model), x, positions, case.window, torch.channels_last
        ),
    }
    if case.sample is None:  # Captum takes whole grids only
        captum = pytest.importorskip("captum.attr").Occlusion(model)
        shape, step = (3, case.window, case.window), (3, case.stride, case.stride)
        contenders["captum"] = lambda x: captum.attribute(
            x, shape, strides=step, target=0, perturbations_per_eval=CAPTUM_AT_ONCE
        )
    return run_race(contenders, image, close, case.rounds)


@pytest.mark.parametrize("contender", CONTENDERS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.group)
def test_occlusion(benchmark: Any, case: Case, contender: str) -> None:
    if contender == "captum" and case.sample is not None:
        pytest.skip("Captum takes whole grids only")
    trace = fold(trace_model(network(case.model)))
    positions = case.positions()
    plan = plan_sweep(trace, trace.shapes((case.size, case.size)), positions, (case.window, case.window))
    times = race(case)
    ours = contender == "zfkernels"
    bound = plan.dense / plan.exact
    replay(
        benchmark, times, contender, case.group, baselines=DENSE, work=Work(plan.exact if ours else plan.dense),
        positions=len(positions), bound=bound, **({"share_of_bound": _best(times) / bound} if ours else {}),
    )  # fmt: skip


def _best(times: Race) -> float:
    return times.ratio(min(DENSE, key=times.median), "zfkernels")

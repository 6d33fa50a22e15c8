"""max_pool2d_with_switches and max_unpool2d_with_switches against F.max_pool2d with indices and F.max_unpool2d."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from rounds import Race, Work, replay, replay_timer
from torch import Tensor
from variants import LAST, contenders, race_variants

from zfkernels.ops import max_pool2d_with_switches, max_unpool2d_with_switches

pytestmark = pytest.mark.benchmark(timer=replay_timer)
POOL, UNPOOL = "max_pool2d_with_switches", "max_unpool2d_with_switches"
# name → shape, kernel, stride, padding
CASES = {
    "zfnet1": ((16, 96, 110, 110), 3, 2, 1),
    "zfnet2": ((16, 256, 26, 26), 3, 2, 1),
    "zfnet5": ((16, 256, 13, 13), 3, 2, 0),
    "vgg16.1": ((4, 64, 224, 224), 2, 2, 0),
    "vgg16.5": ((4, 512, 14, 14), 2, 2, 0),
}


def maps(case: str, turn: int) -> Tensor:
    return torch.randn(CASES[case][0], generator=torch.Generator().manual_seed(turn))


@cache
def pool_race(case: str) -> Race:
    _, *geometry = CASES[case]
    return race_variants(
        lambda given, backend: max_pool2d_with_switches(given["x"], *geometry, backend=backend),
        lambda given: F.max_pool2d(given["x"], *geometry, return_indices=True),
        lambda turn: {"x": maps(case, turn)},
        names=contenders(POOL),
    )


@cache
def unpool_race(case: str) -> Race:
    shape, *geometry = CASES[case]

    def signal(turn: int) -> dict[str, Tensor]:
        x = maps(case, turn)
        values, indices = F.max_pool2d(x, *geometry, return_indices=True)
        return {"values": values, "indices": indices, "switches": max_pool2d_with_switches(x, *geometry)[1]}

    return race_variants(
        lambda given, backend: max_unpool2d_with_switches(
            given["values"], given["switches"], *geometry, output_size=shape[2:], backend=backend
        ),
        lambda given: F.max_unpool2d(given["values"], given["indices"], *geometry, output_size=shape[2:]),
        signal,
        names=contenders(UNPOOL),
        same=geometry[0] == geometry[1],
    )


def work(case: str) -> Work:
    """A float and a switch for each window, and the maps."""
    x, (_, *geometry) = maps(case, 0), CASES[case]
    return Work(bytes=4 * x.numel() + 5 * F.max_pool2d(x, *geometry).numel())


def baselines(contender: str) -> tuple[str, ...]:
    """A pooling is not worth a change of memory format: like is compared with like."""
    return (f"eager{LAST}", "compile") if contender.endswith(LAST) else ("eager-nchw",)


@pytest.mark.parametrize("contender", contenders(POOL))
@pytest.mark.parametrize("case", CASES)
def test_max_pool(benchmark: Any, case: str, contender: str) -> None:
    group = f"{POOL}-{case}-{'x'.join(map(str, CASES[case][0]))}-float32"
    replay(benchmark, pool_race(case), contender, group, baselines=baselines(contender), work=work(case))


@pytest.mark.parametrize("contender", contenders(UNPOOL))
@pytest.mark.parametrize("case", CASES)
def test_max_unpool(benchmark: Any, case: str, contender: str) -> None:
    group = f"{UNPOOL}-{case}-{'x'.join(map(str, CASES[case][0]))}-float32"
    replay(benchmark, unpool_race(case), contender, group, baselines=baselines(contender), work=work(case))

"""DeconvNet projections against the full-frame path and against a loop of Captum's NeuronDeconvolution.

The full-frame path is what a careful user would write with PyTorch: one batch of signals for many units, unpooled with
``F.max_unpool2d``, rectified and filtered with ``F.conv_transpose2d`` on whole frames. Captum takes one neuron of one
image a call; a sample of neurons is timed and scaled up.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import torch
from full_frames import FullFrames
from networks import network
from rounds import Race, Work, replay, replay_timer, run_race
from torch import Tensor

import zfkernels as zf

pytestmark = pytest.mark.benchmark(timer=replay_timer)

CONTENDERS = ("zfkernels", "full-frame", "captum")
CAPTUM_SAMPLE = 16
IMAGES = 9


@dataclass(frozen=True)
class Case:
    model: str
    layer: str
    maps: int | None  # the first so many; None: all
    full_frame_sample: int  # units of the full-frame path that are timed and scaled up
    rounds: int = 3

    @property
    def group(self) -> str:
        return f"projections-{self.model}-{self.layer}-{self.maps or 'all'}-maps-{IMAGES}-images-float32"


CASES = (
    *(Case("alexnet", f"features.{i}", None, 96) for i in (0, 3, 6, 8, 10)),
    *(Case("zfnet", f"features.{i}", 64, 64) for i in (0, 4, 8, 10, 12)),
    *(Case("vgg16", f"features.{i}", 16, 32, rounds=2) for i in (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)),
)


@cache
def race(case: Case) -> tuple[Race, int]:
    model = network(case.model)
    net, layer = zf.DeconvNet(model), int(case.layer.rsplit(".", 1)[1])
    captum = pytest.importorskip("captum.attr").NeuronDeconvolution(model, model.get_submodule(case.layer))

    def scene(turn: int) -> tuple[Tensor, Tensor, Any]:
        images = torch.randn(IMAGES, 3, 224, 224, generator=torch.Generator().manual_seed(turn))
        with torch.inference_mode():
            frames = FullFrames(model.features, layer, images)
            top = frames.top[:, : case.maps].flatten(2)
            place = top.argmax(2).flatten()
        image, channel = (t.flatten() for t in torch.meshgrid(*map(torch.arange, top.shape[:2]), indexing="ij"))
        width = frames.top.shape[3]
        return images, torch.stack([image, channel, place // width, place % width], 1), frames

    def sample(units: Tensor, count: int) -> Tensor:
        return units[torch.randperm(len(units), generator=torch.Generator().manual_seed(0))[:count]]

    def full_frame(given: Any) -> Tensor:
        _, units, frames = given
        with torch.inference_mode():
            parts = [frames.project(chunk) for chunk in sample(units, case.full_frame_sample).split(32)]
        return torch.cat(parts)

    def loop(given: Any) -> Tensor:
        images, units, _ = given
        for image, channel, row, column in sample(units, CAPTUM_SAMPLE).tolist():
            last = captum.attribute(images[image : image + 1], (channel, row, column))
        return last

    def ours(given: Any) -> Any:
        return net.project(given[0], case.layer, units=given[1], batch_size=256)

    def check(name: str, result: Any, expected: Any) -> None:
        if name == "full-frame":
            count = len(expected)
            chosen = torch.randperm(count, generator=torch.Generator().manual_seed(0))[: case.full_frame_sample][:8]
            corners = torch.zeros(len(chosen), 2, dtype=torch.int64)
            mine = expected.windows.crops(corners, expected.windows.frame, chosen)
            assert (mine - result[:8]).abs().max() <= 1e-4 * result[:8].abs().max()

    contenders = {"zfkernels": ours, "full-frame": full_frame, "captum": loop}
    times = run_race(contenders, scene, check, case.rounds)
    units = len(scene(0)[1])
    scale = {"zfkernels": 1.0, "full-frame": units / case.full_frame_sample, "captum": units / CAPTUM_SAMPLE}
    return Race({name: [t * scale[name] for t in each] for name, each in times.times.items()}), units


@pytest.mark.parametrize("contender", CONTENDERS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.group)
def test_projections(benchmark: Any, case: Case, contender: str) -> None:
    times, units = race(case)
    replay(
        benchmark, times, contender, case.group, baselines=("full-frame",), work=Work(), units=units,
        projections_per_second=units / times.median(contender),
    )  # fmt: skip

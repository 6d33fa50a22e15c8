"""The plan of a sweep: boxes against brute force, and what they cost."""

from __future__ import annotations

import pytest
import torch
import torchvision
from support.footprint import assert_boxes, bounding_boxes, toy_footprints
from support.toys import SIZE, TOYS, toy
from sweeping import ON_WINDOWS, squares
from torch import Tensor, nn

from zfkernels.geometry import Boxes
from zfkernels.network import record
from zfkernels.network.program import Program
from zfkernels.occlusion import changed_boxes
from zfkernels.occlusion.arguments import grid
from zfkernels.occlusion.cost import Rates
from zfkernels.occlusion.engine import WindowSweep

SQUARE = (4, 3)
# Toys with steps behind which boxes may be larger than what can be reached.
LOOSE = {"difference"}


@pytest.mark.parametrize("name", TOYS)
def test_changed_boxes_are_what_a_square_can_reach(name: str) -> None:
    program, masks = Program(record(toy(name), (3, *SIZE)), fold=False), toy_footprints(name)
    places = squares(torch.cartesian_prod(torch.arange(0, SIZE[0], 3), torch.arange(0, SIZE[1], 4)), SQUARE)
    found = changed_boxes(program, Boxes.of(places, SIZE))
    assert len(found.keys() & masks.keys()) > 2
    for step in found.keys() & masks.keys():
        mask = masks[step]
        reached = [mask[r : r + SQUARE[0], c : c + SQUARE[1]].flatten(0, 1).any(0) for r, c, *_ in places.tolist()]
        assert_boxes(found[step], bounding_boxes(torch.stack(reached)), name not in LOOSE, step)


@pytest.mark.parametrize("name", ["residual", "oblong", "avg_pool_inner", "view"])
def test_multiply_adds_counted_one_by_one(name: str) -> None:
    model, positions = toy(name), torch.tensor([[0, 0], [10, 9], [22, 30], [5, 28]])
    recording, masks = record(model, (3, *SIZE)), toy_footprints(name)
    sweep = WindowSweep(recording, squares(positions, SQUARE), rates=ON_WINDOWS)
    plan = sweep.plan(torch.device("cpu"), torch.float64)
    exact = dense = 0
    for path, module in model.named_modules():
        if isinstance(module, nn.Linear):
            exact += module.weight.numel() * len(positions)
            dense += module.weight.numel() * len(positions)
        elif isinstance(module, nn.Conv2d):
            mask = masks[recording.layers[path].name]
            reached = [mask[r : r + SQUARE[0], c : c + SQUARE[1]].flatten(0, 1).any(0) for r, c in positions.tolist()]
            exact += module.weight.numel() * int(bounding_boxes(torch.stack(reached)).size.prod(1).sum())
            dense += module.weight.numel() * mask[0, 0].numel() * len(positions)
    assert plan.exact == exact > 0
    assert plan.dense == dense


@pytest.mark.parametrize(
    ("name", "saved"), [("vgg16", 9.1), ("squeezenet1_0", 7.2), ("alexnet", 3.6), ("resnet18", 2.8)]
)
def test_what_exact_boxes_save(name: str, saved: float) -> None:
    with torch.device("meta"):
        model = torchvision.models.get_model(name)
    model = model.eval().to_empty(device="cpu")
    side, window, stride = (224, 224), (16, 16), (4, 4)
    sweep = WindowSweep(record(model, (3, *side)), squares(grid(side, window, stride).reshape(-1, 2), window))
    plan = sweep.plan(torch.device("cpu"), torch.float32)
    assert plan.dense / plan.exact == pytest.approx(saved, abs=0.05)
    assert plan.planned <= 1.06 * plan.exact


# A byte takes a second, nothing else does.
BYTES = Rates(windows=1e30, frames=1e30, memory=1.0, call=0.0, budget=2**26)
PLACES = torch.tensor([[0, 0], [1, 0], [2, 2], [1, 1]])


def seconds(model: nn.Module) -> float:
    sweep = WindowSweep(record(model, (3, 4, 4)), squares(PLACES, (2, 2)), rates=BYTES)
    return sweep.plan(torch.device("cpu"), torch.float32).seconds


def test_a_weight_is_read_once_for_all_positions() -> None:
    """Two units more: 2 numbers written for each position and the clean image, 96 weights packed and multiplied."""
    more = seconds(nn.Sequential(nn.Flatten(), nn.Linear(48, 4))) - seconds(
        nn.Sequential(nn.Flatten(), nn.Linear(48, 2))
    )
    swept = 4 * 2 * 4 + 3 * 4 * 96
    assert more == pytest.approx(swept + swept / 4)


def test_other_axes_take_no_time() -> None:
    class Reshaped(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).view(-1, 4, 16).view(-1, 4, 4, 4).permute(0, 2, 3, 1)

    torch.manual_seed(0)
    assert seconds(Reshaped(3, 4, 1)) == seconds(nn.Conv2d(3, 4, 1))

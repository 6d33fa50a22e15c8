"""The planner: boxes against brute force, groups that hold every position once, and what they cost."""

from __future__ import annotations

import pytest
import torch
import torchvision
import zoo
from footprint import bounding_boxes, toy_footprints
from toys import SIZE, TOYS, toy

from zfkernels.methods.occlusion import grid
from zfkernels.plan import SweepPlan, changed_boxes, needed_boxes, plan_sweep
from zfkernels.plan.reach import frame_of
from zfkernels.trace import Trace, fold, trace_model
from zfkernels.windows import Boxes, Pair, boxes

SQUARE = (4, 3)
# Steps that are not followed cell by cell, and layers that dilation or strides make read with gaps: their boxes, and
# those of all steps behind them, may be larger than what can be reached.
NOT_EXACT = {
    "same_padding": [], "reflecting": ["pad"], "adaptive": ["body.1"], "means": ["mean"], "cat_rows": ["body"],
    "difference": ["body"], "smooth_functions": ["body"], "upsampling": ["body.0"], "ruler": ["mul"],
}  # fmt: skip
READS_WITH_GAPS = {"dilated": ["body.2"]}


def behind(trace: Trace, roots: list[str]) -> set[str]:
    """The named layers and all that depend on them."""
    found = {trace.resolve(root) for root in roots}
    for step in trace.steps:
        if found & set(step.inputs):
            found.add(step.name)
    return found


def assert_boxes(found: Boxes, expected: Boxes, exact: bool, name: str) -> None:
    """Equal, or at least as large."""
    empty = (expected.hi == 0).all(1, keepdim=True)
    assert (empty | (found.lo <= expected.lo)).all(), name
    assert (empty | (found.hi >= expected.hi)).all(), name
    if exact:
        assert torch.equal(found.lo.expand_as(expected.lo), expected.lo), name
        assert torch.equal(found.hi.expand_as(expected.hi), expected.hi), name


@pytest.mark.parametrize("name", TOYS)
def test_changed_boxes_are_what_a_square_can_reach(name: str) -> None:
    trace, masks = trace_model(toy(name), SIZE), toy_footprints(name)
    positions = torch.cartesian_prod(torch.arange(0, SIZE[0], 3), torch.arange(0, SIZE[1], 4))
    found = changed_boxes(trace, trace.shapes(SIZE), boxes(positions, SQUARE, SIZE))
    loose = behind(trace, NOT_EXACT.get(name, []))
    assert found.keys() == masks.keys()
    for step, mask in masks.items():
        squares = [mask[r : r + SQUARE[0], c : c + SQUARE[1]].flatten(0, 1).any(0) for r, c in positions.tolist()]
        assert_boxes(found[step], bounding_boxes(torch.stack(squares)), step not in loose, step)


@pytest.mark.parametrize("name", TOYS)
def test_needed_boxes_are_what_a_cell_depends_on(name: str) -> None:
    trace, masks = trace_model(toy(name), SIZE), toy_footprints(name)
    shapes = trace.shapes(SIZE)
    loose = behind(trace, NOT_EXACT.get(name, []) + READS_WITH_GAPS.get(name, []))
    for step, mask in masks.items():
        cells = torch.cartesian_prod(*(torch.arange(length) for length in mask.shape[2:]))
        found = needed_boxes(trace, shapes, step, cells)[trace.input.name]
        assert_boxes(found, bounding_boxes(mask.flatten(2).permute(2, 0, 1)), step not in loose, step)


def test_a_layer_without_maps_needs_all() -> None:
    trace = trace_model(toy("residual"), SIZE)
    found = needed_boxes(trace, trace.shapes(SIZE), trace.resolve("classes"), None)
    assert all((box.lo == 0).all() for box in found.values())
    assert found[trace.input.name].hi.tolist() == [list(SIZE)]


def plan_of(trace: Trace, size: Pair, window: Pair, positions: torch.Tensor) -> SweepPlan:
    return plan_sweep(trace, trace.shapes(size), positions, window)


def assert_plan(trace: Trace, size: Pair, window: Pair, plan: SweepPlan) -> None:
    """Each position once; windows hold their boxes with at most one cell to spare, inside their frames."""
    shapes = trace.shapes(size)
    changed = changed_boxes(trace, shapes, boxes(plan.positions, window, size))
    members = torch.cat([group.members for group in plan.groups])
    assert torch.equal(members.sort().values, torch.arange(len(plan.positions)))
    for group in plan.groups:
        for step in group.unchanged:
            assert not changed[step].size[group.members].any(), step
        assert not group.unchanged & group.windows.keys()
        for step, place in group.windows.items():
            lo, hi = changed[step].lo[group.members], changed[step].hi[group.members]
            spare = torch.tensor(place.size) - (hi - lo)
            assert ((spare >= 0) & (spare <= 1)).all(), step
            assert (place.origins >= 0).all()
            assert (place.origins + torch.tensor(place.size) <= torch.tensor(place.frame)).all()
            assert place.frame == frame_of(trace.by_name[step], shapes[step])
            assert (place.origins <= lo).all(), step
            assert (place.origins + torch.tensor(place.size) >= hi).all(), step


@pytest.mark.parametrize(
    "name", ["oblong", "dilated", "skipping", "avg_pool_inner", "residual", "squeeze", "split", "ruler"]
)
def test_groups_of_every_position_of_a_small_network(name: str) -> None:
    trace = fold(trace_model(toy(name), SIZE))
    for window in (SQUARE, (1, 9), SIZE):
        positions = torch.cartesian_prod(torch.arange(SIZE[0]), torch.arange(SIZE[1]))
        positions = positions[torch.randperm(len(positions))]
        assert_plan(trace, SIZE, window, plan_of(trace, SIZE, window, positions))


@pytest.mark.parametrize(
    "name", ["vgg11", "resnet18", "squeezenet1_0", "densenet121", "mobilenet_v2", "convnext_tiny", "shufflenet_v2_x1_0"]
)
def test_groups_of_a_grid_over_a_large_image(name: str) -> None:
    size = (224, 192)
    trace = fold(trace_model(zoo.unloaded(name), size))
    positions = grid(size, (30, 20), (11, 13)).reshape(-1, 2)
    plan = plan_of(trace, size, (30, 20), positions)
    assert_plan(trace, size, (30, 20), plan)
    assert plan.exact <= plan.planned <= 1.3 * plan.exact


@pytest.mark.parametrize("name", ["residual", "oblong", "squeeze", "avg_pool_inner", "view"])
def test_multiply_adds_counted_one_by_one(name: str) -> None:
    trace, masks = trace_model(toy(name), SIZE), toy_footprints(name)
    positions = torch.tensor([[0, 0], [10, 9], [22, 30], [5, 28]])
    plan = plan_of(trace, SIZE, SQUARE, positions)
    model = dict(trace.model.named_modules())
    exact = dense = 0
    for step in trace.steps:
        if step.kind == "linear":
            exact += step.params.weight.numel() * len(positions)
            dense += step.params.weight.numel() * len(positions)
        elif step.kind == "conv":
            weights = model[step.label.split(":")[0]].weight.numel()
            mask = masks[step.name]
            cells = [mask[r : r + SQUARE[0], c : c + SQUARE[1]].flatten(0, 1).any(0) for r, c in positions.tolist()]
            exact += weights * int(bounding_boxes(torch.stack(cells)).size.prod(1).sum())
            dense += weights * cells[0].numel() * len(positions)
    assert plan.exact == exact
    assert plan.dense == dense


@pytest.mark.parametrize(
    ("name", "saved"), [("vgg16", 9.1), ("squeezenet1_0", 7.2), ("alexnet", 3.6), ("resnet18", 2.8)]
)
def test_what_exact_boxes_save(name: str, saved: float) -> None:
    with torch.device("meta"):
        model = torchvision.models.get_model(name).eval()
    trace = fold(trace_model(model))
    side, window, stride = (224, 224), (16, 16), (4, 4)
    plan = plan_of(trace, side, window, grid(side, window, stride).reshape(-1, 2))
    assert plan.dense / plan.exact == pytest.approx(saved, abs=0.05)
    assert plan.planned <= 1.1 * plan.exact

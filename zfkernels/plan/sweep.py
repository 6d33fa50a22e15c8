"""The plan of an occlusion sweep: which positions travel together, in windows of which size, and what goes dense."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from zfkernels.plan.reach import Placement, changed_boxes, frame_of
from zfkernels.plan.tail import choose_tail
from zfkernels.trace import Step, Trace
from zfkernels.trace.steps import FRAME_KINDS, LOCAL_KINDS, SLIDING_KINDS, Linear
from zfkernels.windows import Pair, boxes

DENSE_FROM = 0.8  # share of the frame from which a window is not worth its context
FEW = 8  # positions below which a group may be padded more freely
PADDING, PADDING_OF_FEW = 1.05, 1.5  # multiply-adds that padding may cost


@dataclass(frozen=True)
class Group:
    """Positions whose windows have the same sizes.

    Attributes:
        members: int64 [G], indices of the positions.
        windows: where the windows of each windowed step lie.
        unchanged: steps with maps that no position of the group can reach.
    """

    members: Tensor
    windows: dict[str, Placement]
    unchanged: frozenset[str]


@dataclass(frozen=True)
class SweepPlan:
    """Groups of positions and what a sweep costs, in multiply-adds of convolutions and fully-connected layers.

    Attributes:
        positions: int64 [P, 2].
        groups: together they hold each position once; without the steps behind ``tail``.
        tail: the step from whose value on whole frames of all groups go on together.
        exact: multiply-adds of the sweep if each position's windows were exactly its boxes.
        planned: multiply-adds of the groups as planned, padding and dense steps included.
        dense: multiply-adds of running the whole network for each position.
    """

    positions: Tensor
    groups: tuple[Group, ...]
    tail: str
    exact: int
    planned: int
    dense: int


def plan_sweep(
    trace: Trace,
    shapes: Mapping[str, tuple[int, ...]],
    positions: Tensor,
    window: Pair,
    watched: str | None = None,
) -> SweepPlan:
    """Plans a sweep of a square of size ``window`` over ``positions`` int64 [P, 2], with a step to watch or None."""
    image = shapes[trace.input.name]
    changed = changed_boxes(trace, shapes, boxes(positions, window, (image[2], image[3])))
    frames = {name: frame for name in changed if (frame := frame_of(trace.by_name[name], shapes[name])) is not None}
    costs = {step.name: cell_cost(step) for step in trace.steps}
    names = list(changed)
    sizes = torch.stack([changed[name].size for name in names], 1)  # [P, L, 2]
    limit = torch.tensor([frames[name] for name in names])
    cost = torch.tensor([costs[name] for name in names], dtype=torch.float64)
    signatures, label = torch.unique(sizes.flatten(1), dim=0, return_inverse=True)
    signatures = signatures.view(-1, len(names), 2)
    home, merged = _merge(signatures, torch.bincount(label, minlength=len(signatures)), cost)
    label = home[label]
    lo = torch.stack([changed[name].lo for name in names], 1)
    origins = torch.minimum(lo, limit - merged[label]).clamp(min=0).to(torch.int32)  # [P, L, 2]
    groups = []
    for members, size in zip(_members(label, len(merged)), merged.tolist(), strict=True):
        here = origins[members].permute(1, 0, 2).contiguous()
        places = {name: Placement(here[i], tuple(size[i]), frames[name]) for i, name in enumerate(names)}
        groups.append(_group(trace, places, members))
    windowed = {
        step.name: sum(len(group.members) * costs[step.name] * _cells(group, step.name, frames) for group in groups)
        for step in trace.steps
    }
    whole = {name: len(positions) * cost * _frame_cells(name, frames) for name, cost in costs.items()}
    tail = choose_tail(trace, windowed, whole, watched)
    behind = _behind(trace, tail)
    planned = sum(whole[name] if name in behind else adds for name, adds in windowed.items())
    rest = sum(cost for name, cost in costs.items() if name not in frames)  # layers without maps
    exact = int((sizes.prod(2).to(torch.float64) @ cost).sum()) + len(positions) * rest
    return SweepPlan(
        positions, tuple(_without(group, behind) for group in groups), tail, exact, planned, sum(whole.values())
    )


def _behind(trace: Trace, tail: str) -> frozenset[str]:
    names = [step.name for step in trace.needed_for({trace.output})]
    return frozenset(names[names.index(tail) + 1 :])


def _without(group: Group, steps: frozenset[str]) -> Group:
    windows = {name: place for name, place in group.windows.items() if name not in steps}
    return replace(group, windows=windows, unchanged=group.unchanged - steps)


def cell_cost(step: Step) -> int:
    """Multiply-adds for one output cell of all maps (of a layer without maps: for the whole layer)."""
    if step.kind == "conv":
        return step.params.weight.numel()
    return step.params.weight.numel() if isinstance(step.params, Linear) else 0


def runs_on_windows(step: Step, group: Mapping[str, Placement], unchanged: frozenset[str]) -> bool:
    """Whether a step can run on windows, given how its inputs come."""
    if step.kind in FRAME_KINDS:
        return False
    if step.kind in SLIDING_KINDS or step.kind in LOCAL_KINDS:
        return step.inputs[0] in group
    return step.kind in ("add", "cat", "mul") and all(name in group or name in unchanged for name in step.inputs)


def _group(trace: Trace, places: Mapping[str, Placement], members: Tensor) -> Group:
    """Chooses, step by step, between windows and whole frames."""
    windows: dict[str, Placement] = {}
    unchanged = frozenset(name for name, place in places.items() if 0 in place.size)
    for step in trace.steps:
        place = places.get(step.name)
        if place is None or step.name in unchanged:
            continue
        small = place.size[0] * place.size[1] < DENSE_FROM * place.frame[0] * place.frame[1]
        if step.kind == "input" or (small and runs_on_windows(step, windows, unchanged)):
            windows[step.name] = place
    return Group(members, windows, unchanged)


def _members(label: Tensor, groups: int) -> tuple[Tensor, ...]:
    """The positions of each group, in order."""
    order = torch.argsort(label, stable=True)
    return order.split(torch.bincount(label, minlength=groups).tolist())


def _cells(group: Group, name: str, frames: Mapping[str, Pair]) -> int:
    if name in group.unchanged:
        return 0
    if name in group.windows:
        size = group.windows[name].size
        return size[0] * size[1]
    return _frame_cells(name, frames)


def _frame_cells(name: str, frames: Mapping[str, Pair]) -> int:
    return frames[name][0] * frames[name][1] if name in frames else 1


def _merge(signatures: Tensor, counts: Tensor, cost: Tensor) -> tuple[Tensor, Tensor]:
    """Joins signatures [U, L, 2] that differ by at most one cell in each layer where the padding is cheap.

    Returns:
        the group of each signature, and the sizes [G, L, 2] of the groups.
    """
    total = (signatures.prod(2).to(torch.float64) @ cost).numpy()
    size = signatures.flatten(1).to(torch.int16).numpy()
    home = np.zeros(len(size), dtype=np.int64)
    merged: list[int] = []
    for index in np.argsort(-total, kind="stable"):
        limit = PADDING_OF_FEW if counts[index] < FEW else PADDING
        near = [group for group, first in enumerate(merged) if total[first] <= limit * total[index]]
        spare = size[[merged[group] for group in near]] - size[index] if near else size[:0]
        fits = ((spare >= 0) & (spare <= (size[index] > 0))).all(1)  # what is out of reach stays so
        if fits.any():
            home[index] = near[int(np.flatnonzero(fits)[-1])]  # they are sorted: the last is the cheapest
        else:
            home[index] = len(merged)
            merged.append(int(index))
    return torch.from_numpy(home), signatures[merged]

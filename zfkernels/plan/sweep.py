"""The plan of an occlusion sweep: which positions travel together, in windows of which size, and where they go dense."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from zfkernels.plan.reach import Placement, changed_boxes, frame_of
from zfkernels.trace import Step, Trace
from zfkernels.trace.steps import FRAME_KINDS, LOCAL_KINDS, SLIDING_KINDS
from zfkernels.windows import Boxes, Pair, boxes, place

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
        groups: together they hold each position once.
        exact: multiply-adds of the sweep if each position's windows were exactly its boxes.
        planned: multiply-adds of the groups as planned, padding and dense steps included.
        dense: multiply-adds of running the whole network for each position.
    """

    positions: Tensor
    groups: tuple[Group, ...]
    exact: int
    planned: int
    dense: int


def plan_sweep(trace: Trace, shapes: Mapping[str, tuple[int, ...]], positions: Tensor, window: Pair) -> SweepPlan:
    """Plans a sweep of a square of size ``window`` over ``positions`` int64 [P, 2]."""
    image = shapes[trace.input.name]
    changed = changed_boxes(trace, shapes, boxes(positions, window, (image[2], image[3])))
    frames = {name: frame for name in changed if (frame := frame_of(trace.by_name[name], shapes[name])) is not None}
    costs = {step.name: cell_cost(step, shapes) for step in trace.steps}
    names = list(changed)
    sizes = torch.stack([changed[name].size for name in names], 1)  # [P, L, 2]
    frame = torch.tensor([frames[name] for name in names])
    cost = torch.tensor([costs[name] for name in names], dtype=torch.float64)
    signatures, label = torch.unique(sizes.flatten(1), dim=0, return_inverse=True)
    signatures = signatures.view(-1, len(names), 2)
    home, merged = _merge(signatures, torch.bincount(label, minlength=len(signatures)), cost)
    groups, planned = [], 0
    rest = sum(c for name, c in costs.items() if name not in frames)  # layers without maps
    for index, size in enumerate(merged):
        members = (home[label] == index).nonzero()[:, 0]
        group = _group(trace, changed, frames, names, size, members)
        groups.append(group)
        cells = {name: _cells(group, name, frames[name]) for name in names}
        planned += len(members) * (sum(costs[name] * cells[name] for name in names) + rest)
    exact = int((sizes.prod(2).to(torch.float64) @ cost).sum()) + len(positions) * rest
    whole = int(frame.prod(1).to(torch.float64) @ cost) + rest
    return SweepPlan(positions, tuple(groups), exact, planned, whole * len(positions))


def cell_cost(step: Step, shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Multiply-adds for one output cell of all maps (of a layer without maps: for the whole layer)."""
    if step.kind == "conv":
        return step.params.weight.numel()
    weight = getattr(step.params, "weight", None)
    if step.kind == "linear" or (step.kind == "pointwise" and weight is not None and weight.dim() == 2):
        return weight.numel()
    return 0


def runs_on_windows(trace: Trace, step: Step, group: Mapping[str, Placement], unchanged: frozenset[str]) -> bool:
    """Whether a step can run on windows, given how its inputs come."""
    if step.kind in FRAME_KINDS:
        return False
    if step.kind in SLIDING_KINDS or step.kind in LOCAL_KINDS:
        return step.inputs[0] in group
    return step.kind in ("add", "cat", "mul") and all(name in group or name in unchanged for name in step.inputs)


def _group(
    trace: Trace,
    changed: Mapping[str, Boxes],
    frames: Mapping[str, Pair],
    names: list[str],
    sizes: Tensor,
    members: Tensor,
) -> Group:
    windows: dict[str, Placement] = {}
    unchanged = frozenset(name for name, size in zip(names, sizes.tolist(), strict=True) if 0 in size)
    wanted = dict(zip(names, sizes.tolist(), strict=True))
    for step in trace.steps:
        if step.name not in changed or step.name in unchanged:
            continue
        frame = frames[step.name]
        height, width = wanted[step.name]
        small = height * width < DENSE_FROM * frame[0] * frame[1]
        if step.kind == "input" or (small and runs_on_windows(trace, step, windows, unchanged)):
            origins = place(changed[step.name].lo[members], (height, width), frame)
            windows[step.name] = Placement(origins, (height, width), frame)
    return Group(members, windows, unchanged)


def _cells(group: Group, name: str, frame: Pair) -> int:
    if name in group.unchanged:
        return 0
    size = group.windows[name].size if name in group.windows else frame
    return size[0] * size[1]


def _merge(signatures: Tensor, counts: Tensor, cost: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Joins signatures [U, L, 2] that differ by at most one cell in each layer where the padding is cheap.

    Returns:
        the group of each signature, and the sizes [L, 2] of each group.
    """
    total = signatures.prod(2).to(torch.float64) @ cost
    home = torch.zeros(len(signatures), dtype=torch.int64)
    merged: list[int] = []
    for index in torch.argsort(total, descending=True, stable=True).tolist():
        best = None
        if merged:
            spare = signatures[merged] - signatures[index]
            fits = ((spare >= 0) & (spare <= 1)).flatten(1).all(1)
            limit = PADDING_OF_FEW if counts[index] < FEW else PADDING
            fits &= total[merged] <= limit * total[index]
            fits &= ((signatures[merged] == 0) == (signatures[index] == 0)).flatten(1).all(1)
            if fits.any():
                best = int(torch.where(fits, total[merged], torch.inf).argmin())
        if best is None:
            best = len(merged)
            merged.append(index)
        home[index] = best
    return home, [signatures[index] for index in merged]

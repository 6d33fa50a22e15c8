"""What an occlusion sweep will do, layer by layer: window and frame, windowed or dense and why, multiply-adds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from zfkernels.methods.occlusion import examine, grid, to_pair
from zfkernels.network import without_autocast
from zfkernels.plan import SweepPlan, cell_cost, changed_boxes, frame_of, plan_sweep
from zfkernels.plan.sweep import DENSE_FROM
from zfkernels.results import html_table
from zfkernels.trace import Step, Trace, UnrecordableError, fold, trace_model
from zfkernels.trace.steps import FRAME_KINDS
from zfkernels.windows import Boxes, Pair, boxes


@dataclass(frozen=True)
class PlanRow:
    """One layer of the plan, for the largest group of positions.

    Attributes:
        layer: its name.
        kind: its kind of step.
        frame: (rows, columns) of the whole layer, None without maps.
        window: (rows, columns) that are computed for each position, None for a mean over the frame or without maps.
        mode: "windows", "dense" or "unchanged".
        why: what decided the mode.
        multiply_adds: for one position of the group.
        dense_multiply_adds: for the whole layer.
    """

    layer: str
    kind: str
    frame: Pair | None
    window: Pair | None
    mode: str
    why: str
    multiply_adds: int
    dense_multiply_adds: int


@dataclass(frozen=True, repr=False)
class PlanReport:
    """The plan of a sweep; ``str()`` is the table, and a notebook shows it as one.

    Attributes:
        plan: which positions travel together; None for a sweep on whole images.
        rows: one for each layer.
        window: (height, width) of the square.
        whole: why the sweep runs on whole images, "" if it does not.
    """

    plan: SweepPlan | None
    rows: tuple[PlanRow, ...]
    window: Pair
    whole: str = ""

    def summary(self) -> str:
        """The plan in one line: how much less work it is than running the network on each occluded image."""
        plan = self.plan
        if plan is None:
            return f"square {_size(self.window)}: the sweep runs on whole images: {self.whole}"
        dense = sum(row.mode == "dense" for row in self.rows)
        return (
            f"{len(plan.positions)} positions of a square of {_size(self.window)}: {plan.dense / plan.planned:.2f}x "
            f"fewer multiply-adds than dense; {dense} of {len(self.rows)} layers on whole frames"
        )

    def __repr__(self) -> str:
        return f"<PlanReport: {self.summary()}>"

    def _repr_html_(self) -> str:
        return html_table(self.summary(), [
            {
                "layer": row.layer, "kind": row.kind, "frame": _size(row.frame), "window": _size(row.window),
                "mode": row.mode, "M multiply-adds": row.multiply_adds / 1e6, "why": row.why,
            }
            for row in self.rows
        ], limit=None)  # fmt: skip

    def __str__(self) -> str:
        if self.plan is None:
            return self.summary()
        plan, count = self.plan, len(self.plan.positions)
        width = max(len(row.layer) for row in self.rows)
        lines = [
            f"{'layer':{width}} {'kind':12} {'frame':>9} {'window':>9} {'mode':10} {'M-adds':>9} {'of dense':>9}  why"
        ]
        for row in self.rows:
            share = f"{row.multiply_adds / row.dense_multiply_adds:.1%}" if row.dense_multiply_adds else ""
            adds = f"{row.multiply_adds / 1e6:.2f}M" if row.multiply_adds else ""
            lines.append(
                f"{row.layer:{width}} {row.kind:12} {_size(row.frame):>9} {_size(row.window):>9} {row.mode:10} "
                f"{adds:>9} {share:>9}  {row.why}"
            )
        lines.append(
            f"square {_size(self.window)}, {count} positions in {len(plan.groups)} groups; the table shows the "
            f"largest, {max(len(group.members) for group in plan.groups)} positions"
        )
        each = [adds / count / 1e6 for adds in (plan.dense, plan.exact, plan.planned)]
        lines.append(
            f"multiply-adds per position: dense {each[0]:.1f}M, "
            f"exact boxes {each[1]:.1f}M ({each[0] / each[1]:.2f}x fewer), "
            f"as planned {each[2]:.1f}M ({each[0] / each[2]:.2f}x fewer)"
        )
        return "\n".join(lines)


@without_autocast()
def explain_plan(
    model: nn.Module, size: int | Pair, window: int | Pair, stride: int | Pair | None = None
) -> PlanReport:
    """The plan of an occlusion sweep, without running it; printing the result shows the table.

    Args:
        model: an nn.Module in eval mode.
        size: (H, W) of the images.
        window: (height, width) of the square.
        stride: of the grid of positions; the window's size by default.

    Raises:
        TypeError: no nn.Module.
        ValueError: a bad size, window or stride, or a model in training mode.
    """
    image, square = to_pair("explain_plan", "size", size), to_pair("explain_plan", "window", window)
    if square[0] > image[0] or square[1] > image[1]:
        raise ValueError(f"explain_plan: expected window no larger than the images {image}, got {square}")
    step = square if stride is None else to_pair("explain_plan", "stride", stride)
    positions = grid(image, square, step).reshape(-1, 2)
    try:
        whole_trace = trace_model(model, image)
    except UnrecordableError as error:
        return PlanReport(None, (), square, error.reason)
    recording = whole_trace.recording
    parameter = next(model.parameters(), torch.empty(0))
    noise = torch.randn((1, recording.channels, *image), generator=torch.Generator().manual_seed(0)).to(parameter)
    verdict = examine(whole_trace, noise, positions, square, noise.new_zeros(recording.channels))
    if verdict.mixes or verdict.differs:
        return PlanReport(None, (), square, verdict.mixes or verdict.differs)
    trace = fold(whole_trace)
    shapes = trace.shapes(image)
    plan = plan_sweep(trace, shapes, positions, square)
    reached = changed_boxes(trace, shapes, boxes(positions, square, image))
    rows = tuple(
        _row(trace, shapes, plan, reached, step) for step in trace.steps if step.name in shapes and step.kind != "input"
    )
    return PlanReport(plan, rows, square)


def _row(
    trace: Trace, shapes: Mapping[str, tuple[int, ...]], plan: SweepPlan, reached: Mapping[str, Boxes], step: Step
) -> PlanRow:
    """``reached``: the box that each position's square can change in each step with maps."""
    group = max(plan.groups, key=lambda group: len(group.members))
    frame, cost = frame_of(step, shapes[step.name]), cell_cost(step)
    if step.kind == "global_pool" and step.inputs[0] in group.windows and not _follows(trace, step, plan.tail):
        return PlanRow(step.label, step.kind, frame, None, "windows", "clean mean, and what the window changes", 0, 0)
    if frame is None:
        return PlanRow(step.label, step.kind, None, None, "dense", "no maps", cost, cost)
    cells = frame[0] * frame[1]
    if step.name in group.unchanged:
        return PlanRow(step.label, step.kind, frame, (0, 0), "unchanged", "out of reach", 0, cost * cells)
    if step.name in group.windows:
        window = group.windows[step.name].size
        return PlanRow(
            step.label, step.kind, frame, window, "windows", f"{window[0] * window[1] / cells:.0%} of the frame",
            cost * window[0] * window[1], cost * cells,
        )  # fmt: skip
    share = int(reached[step.name].size[group.members].amax(0).prod()) / cells
    dense = [name for name in step.inputs if name not in group.windows and name not in group.unchanged]
    if step.kind == "other":
        why = "no rule for windows: runs on whole frames"
    elif step.kind in FRAME_KINDS:
        why = "spreads over the frame"
    elif share >= DENSE_FROM:
        why = f"the square changes {share:.0%} of the frame"
    elif _follows(trace, step, plan.tail):
        why = f"whole frames of all groups together from {trace.by_name[plan.tail].label} on"
    else:
        why = f"{trace.by_name[dense[0]].label} is dense"
    return PlanRow(step.label, step.kind, frame, frame, "dense", why, cost * cells, cost * cells)


def _follows(trace: Trace, step: Step, tail: str) -> bool:
    names = [other.name for other in trace.steps]
    return names.index(step.name) > names.index(tail)


def _size(pair: Pair | None) -> str:
    return "" if pair is None else f"{pair[0]}x{pair[1]}"

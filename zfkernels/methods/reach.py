"""Which cells of each step an activation depends on, and the windows that hold them.

Boxes are exact, in cells that are *reachable*, whatever the weights are. A step that spreads over the frame (global
pooling, a fully-connected layer) has the whole frame as box.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from zfkernels.trace import Step, Trace
from zfkernels.trace.steps import FRAME_KINDS, SLIDING_KINDS
from zfkernels.windows import Boxes, Pair, inputs_read, per_axis, place, union


@dataclass(frozen=True)
class Placement:
    """Where the windows of one step lie: ``origins`` int32 [P, 2], all of ``size``, in ``frame``."""

    origins: Tensor
    size: Pair
    frame: Pair

    @property
    def fills_frame(self) -> bool:
        return self.size == self.frame

    def rows(self, start: int, stop: int) -> Placement:
        """The placement of some of the windows."""
        return Placement(self.origins[start:stop], self.size, self.frame)


def frame_of(step: Step, shape: tuple[int, ...]) -> Pair | None:
    """(H, W) of a step's value of ``shape``, None if it is not a stack of maps."""
    if len(shape) != 4 or not step.layout:
        return None
    return (shape[2], shape[3]) if step.layout == "NCHW" else (shape[1], shape[2])


def needed_boxes(
    trace: Trace, shapes: Mapping[str, tuple[int, ...]], target: str, position: Tensor | None, size: Pair = (1, 1)
) -> dict[str, Boxes]:
    """For each step with maps below ``target``, the box that boxes of ``size`` at ``position`` [P, 2] of it depend on.

    ``position`` None: the target has no maps; one row, the whole frame everywhere.
    """
    lo = torch.zeros((1, 2), dtype=torch.int64) if position is None else position.to(torch.int64)
    unit = Boxes(lo, lo + per_axis(lo, size))
    known: dict[str, Boxes] = {}
    reached = {target}
    for step in reversed(trace.steps):
        if step.name not in reached:
            continue
        reached.update(step.inputs)
        frame = frame_of(step, shapes.get(step.name, ()))
        if step.name == target and frame is not None and position is not None:
            known[step.name] = unit
        here = known.get(step.name)
        for name in step.inputs:
            below = frame_of(trace.by_name[name], shapes.get(name, ()))
            if below is None:
                continue
            if here is None or step.kind in FRAME_KINDS or (below != frame and step.kind not in SLIDING_KINDS):
                box = whole(unit, below)
            elif step.kind in SLIDING_KINDS:
                box = inputs_read(here, step.sliding, below)
            else:
                box = here
            known[name] = union(known[name], box) if name in known else box
    return known


def one_placement(boxes: Boxes, frame: Pair) -> Placement:
    """Windows of one size for all boxes: that of the largest, at least one cell."""
    rows, columns = torch.cat([boxes.size, boxes.size.new_ones(1, 2)]).amax(0).tolist()
    size = (int(rows), int(columns))
    return Placement(place(boxes.lo, size, frame), size, frame)


def whole(like: Boxes, frame: Pair) -> Boxes:
    """As many boxes as ``like``, each the whole frame."""
    hi = torch.tensor(frame, dtype=torch.int64, device=like.lo.device).expand_as(like.lo)
    return Boxes(torch.zeros_like(like.lo), hi)

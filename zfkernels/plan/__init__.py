"""The planner: on the host, before anything runs, which cells of each step can matter and where the windows lie."""

from zfkernels.plan.reach import Placement, changed_boxes, frame_of, needed_boxes, one_placement
from zfkernels.plan.sweep import Group, SweepPlan, cell_cost, plan_sweep

__all__ = [
    "Group",
    "Placement",
    "SweepPlan",
    "cell_cost",
    "changed_boxes",
    "frame_of",
    "needed_boxes",
    "one_placement",
    "plan_sweep",
]

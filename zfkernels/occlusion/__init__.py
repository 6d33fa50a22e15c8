"""Occlusion sweeps on ragged windows: planned on the host, then one launch per step for all positions of a chunk."""

from zfkernels.occlusion.collect import SweepValues
from zfkernels.occlusion.engine import WindowSweep
from zfkernels.occlusion.plan import SweepPlan, changed_boxes

__all__ = ["SweepPlan", "SweepValues", "WindowSweep", "changed_boxes"]

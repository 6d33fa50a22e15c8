"""Occlusion sweeps on windows: planned on the host, then one launch per step for all positions of a chunk."""

from zfkernels.occlusion.collect import SweepValues
from zfkernels.occlusion.cover import Cover
from zfkernels.occlusion.engine import WindowSweep
from zfkernels.occlusion.fills import noise
from zfkernels.occlusion.plan import SweepPlan, changed_boxes
from zfkernels.occlusion.receptive_field import empirical_receptive_field
from zfkernels.occlusion.reduce import MapReducer, class_area, dice, largest_probability, region_mean
from zfkernels.occlusion.watch import Watched

__all__ = [
    "Cover", "MapReducer", "SweepPlan", "SweepValues", "Watched", "WindowSweep", "changed_boxes", "class_area",
    "dice", "empirical_receptive_field",
    "largest_probability", "noise", "region_mean",
]  # fmt: skip

"""Where a sweep leaves its windows.

From some step on, the windows of nearly all positions fill their frames. Group by group, that is dense work in small
batches; whole frames of all groups together are the same work in large ones, for which filters are read once.
"""

from __future__ import annotations

from collections.abc import Mapping

from zfkernels.trace import Trace
from zfkernels.trace.steps import FRAME_KINDS

MORE = 1.06  # multiply-adds that may be spent on frames where windows would do


def choose_tail(
    trace: Trace, windowed: Mapping[str, float], whole: Mapping[str, float], watched: str | None = None
) -> str:
    """The step whose value, one frame or vector for each position, all that follows is computed from.

    No later step looks behind it, and the step to be watched does not come later. Among those that cost little more,
    the one with most work behind it; the last of equals.

    Args:
        trace: the network.
        windowed: multiply-adds of each step as planned on windows, all positions together.
        whole: the same on whole frames.
        watched: a step whose value is wanted on windows, or None.
    """
    steps = trace.needed_for({trace.output})
    order = {step.name: index for index, step in enumerate(steps)}
    planned = sum(windowed[step.name] for step in steps)
    best, most, behind, more = trace.output, 0.0, 0.0, 0.0
    oldest = len(steps)  # of what the steps behind read
    for index in range(len(steps) - 1, max(0, order.get(watched or "", 0) - 1), -1):
        step = steps[index]
        one_value = bool(step.layout) or (step.kind in FRAME_KINDS and step.kind != "other")
        if one_value and oldest >= index and behind > most and planned + more <= MORE * planned:
            best, most = step.name, behind
        behind += whole[step.name]
        more += whole[step.name] - windowed[step.name]
        oldest = min([oldest, *(order[name] for name in step.inputs)])
    return best

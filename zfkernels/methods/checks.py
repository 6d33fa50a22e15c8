"""Checks that the methods on traces share."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from zfkernels.checks import recording_for
from zfkernels.network import Verdict, check
from zfkernels.trace import Trace, trace_model


def trace_for(method: str, model: nn.Module, images: Any) -> Trace:
    """The trace of a model for checked images; raises what :func:`zfkernels.checks.recording_for` does."""
    recording_for(method, model, images)
    return trace_model(model, images)


def refuse_difference(method: str, trace: Trace, images: Tensor) -> Verdict:
    """Raises ValueError where the recording of a model is not what the model computes for the first of ``images``."""
    verdict = Verdict()
    if len(images) and images[:1].isfinite().all():
        verdict = check(trace.recording, images[:1], images[:1].flip(3))
        if verdict.differs:
            raise ValueError(f"{method}: expected model that can be recorded, got one of which {verdict.differs}")
    return verdict

"""The traces of the sweep on grouped windows."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from zfkernels.checks import check_images, is_int_tensor, recording_for
from zfkernels.checks import refuse_difference as refuse
from zfkernels.network import Verdict
from zfkernels.trace import Trace, trace_model

__all__ = ["check_images", "is_int_tensor", "refuse_difference", "trace_for"]


def trace_for(method: str, model: nn.Module, images: Any) -> Trace:
    recording_for(method, model, images)
    return trace_model(model, images)


def refuse_difference(method: str, trace: Trace, images: Tensor) -> Verdict:
    return refuse(method, trace.recording, images)

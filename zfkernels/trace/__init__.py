"""From an nn.Module to a table of steps: what each layer does, its geometry and its receptive field."""

from zfkernels.network import UnrecordableError
from zfkernels.trace.fold import fold
from zfkernels.trace.steps import AvgPool, Conv, Step
from zfkernels.trace.trace import LayerInfo, Trace, first_channels, trace_model

__all__ = [
    "AvgPool", "Conv", "LayerInfo", "Step", "Trace", "UnrecordableError", "first_channels", "fold", "trace_model",
]  # fmt: skip

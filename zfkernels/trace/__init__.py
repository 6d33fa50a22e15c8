"""From an nn.Module to a table of steps: what each layer does, its geometry and its receptive field."""

from zfkernels.trace.fold import fold
from zfkernels.trace.steps import AvgPool, Conv, Step
from zfkernels.trace.tracer import LayerInfo, Trace, UntraceableError, trace_model

__all__ = ["AvgPool", "Conv", "LayerInfo", "Step", "Trace", "UntraceableError", "fold", "trace_model"]

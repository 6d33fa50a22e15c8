"""Folding: a convolution, the batch normalisation behind it and the ReLU behind that become one step."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from zfkernels.trace.steps import Conv, Step
from zfkernels.trace.tracer import Trace


@torch.no_grad()
def fold(trace: Trace, keep: Collection[str] = ()) -> Trace:
    """The same network in fewer steps, its filters channels last, as the maps of a sweep are.

    A folded step has the name of its last part, so that the steps that read it need not know.

    Args:
        trace: the network.
        keep: names of steps that must stay steps of their own, with the value that they have in the network.
    """
    steps: dict[str, Step] = {}
    for step in trace.steps:
        below = steps.get(step.inputs[0]) if len(step.inputs) == 1 else None
        alone = below is not None and len(trace.users[below.name]) == 1 and below.name not in {*keep, trace.output}
        if below is not None and alone and below.kind == "conv" and not below.params.relu:
            conv = _absorb(below.params, step)
            if conv is not None:
                del steps[below.name]
                steps[step.name] = replace(below, name=step.name, params=conv, call=_caller(conv))
                continue
        if step.kind == "identity":
            step = replace(step, call=lambda x: x)
        if step.kind == "conv":
            conv = replace(step.params, weight=step.params.weight.contiguous(memory_format=torch.channels_last))
            step = replace(step, params=conv, call=_caller(conv))
        steps[step.name] = step
    return Trace(trace.model, tuple(steps.values()), trace.output)


def _absorb(conv: Conv, step: Step) -> Conv | None:
    """The convolution with ``step`` folded in, or None where it cannot be."""
    if step.kind == "relu" and step.rectifies:
        return replace(conv, relu=True)
    if step.kind != "batch_norm":
        return None
    norm = step.params
    scale = torch.rsqrt(norm.running_var + norm.eps)
    shift = -norm.running_mean * scale
    if norm.weight is not None:
        scale, shift = scale * norm.weight.detach(), shift * norm.weight.detach() + norm.bias.detach()
    bias = shift if conv.bias is None else shift + conv.bias * scale
    return replace(conv, weight=conv.weight * scale[:, None, None, None], bias=bias)


def _caller(conv: Conv) -> Callable[[Tensor], Tensor]:
    def call(x: Tensor) -> Tensor:
        s = conv.sliding
        out = F.conv2d(x, conv.weight, conv.bias, s.stride, s.padding, s.dilation, conv.groups)
        return out.relu_() if conv.relu else out

    return call

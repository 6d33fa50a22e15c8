"""Folding: a convolution, the batch normalisation behind it and the ReLU behind that become one step."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from zfkernels.trace.steps import Conv, Step
from zfkernels.trace.trace import Trace

Made = dict[tuple[Any, ...], Conv]


@torch.no_grad()
def fold(trace: Trace, keep: Collection[str] = (), made: Made | None = None) -> Trace:
    """The same network in fewer steps, its filters channels last, as the maps of a sweep are.

    A folded step has the name of its last part, so that the steps that read it need not know.

    Args:
        trace: the network.
        keep: names of steps that must stay steps of their own, with the value that they have in the network.
        made: folded filters by what they were made of; those of the same network for images of another size are taken
            from here, new ones are added.
    """
    chains: dict[str, list[Step]] = {}
    for step in trace.steps:
        below = chains.get(step.inputs[0]) if len(step.inputs) == 1 else None
        name = step.inputs[0] if step.inputs else ""
        if below and len(trace.users[name]) == 1 and name not in {*keep, trace.output} and _fits(below, step):
            del chains[name]
            chains[step.name] = [*below, step]
        else:
            chains[step.name] = [step]
    made = {} if made is None else made
    return replace(trace, steps=tuple(_one_step(chain, made) for chain in chains.values()))


def _fits(chain: list[Step], step: Step) -> bool:
    """Whether a step can become a part of the convolution that ``chain`` begins with."""
    rectified = chain[-1].kind == "relu"
    return chain[0].kind == "conv" and not rectified and (step.rectifies or step.kind == "batch_norm")


def _one_step(chain: list[Step], made: Made) -> Step:
    first, last = chain[0], chain[-1]
    if first.kind != "conv":
        return first
    key = tuple(_mark(value) for step in chain for value in _values(step.params))
    if key not in made:
        conv = first.params
        for step in chain[1:]:
            conv = _absorb(conv, step)
        made[key] = replace(conv, weight=conv.weight.contiguous(memory_format=torch.channels_last))
    return replace(first, name=last.name, params=made[key], call=made[key])


def _absorb(conv: Conv, step: Step) -> Conv:
    """The convolution with ``step`` folded in."""
    if step.kind == "relu":
        return replace(conv, relu=True)
    norm = step.params
    scale = torch.rsqrt(norm.running_var + norm.eps)
    shift = -norm.running_mean * scale
    if norm.weight is not None:
        scale, shift = scale * norm.weight, shift * norm.weight + norm.bias
    bias = shift if conv.bias is None else shift + conv.bias * scale
    return replace(conv, weight=conv.weight * scale[:, None, None, None], bias=bias)


def _values(params: Any) -> list[Any]:
    return [params] if isinstance(params, str) else [getattr(params, field.name) for field in fields(params)]


def _mark(value: Any) -> Any:
    if not isinstance(value, Tensor):
        return value
    return value.data_ptr(), -1 if value.is_inference() else value._version, value.shape

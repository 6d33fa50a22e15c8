"""From a network's outputs to probabilities, whatever the network ends in."""

from __future__ import annotations

import torch
from torch import Tensor

ACTIVATIONS = ("none", "softmax", "sigmoid")


def activation_of(*outputs: Tensor) -> str:
    """What turns outputs [..., classes] of one network into probabilities.

    ``"none"`` where they are probabilities already: every row is at least 0 and sums to 1 within rounding, as behind a
    softmax; or there is one class and every value lies in [0, 1], as behind a sigmoid. Else ``"sigmoid"`` for one
    class, since a softmax over one class is always 1, and ``"softmax"`` for several.
    """
    if outputs[0].shape[-1] == 1:
        inside = all(bool(((values >= 0) & (values <= 1)).all()) for values in outputs)
        return "none" if inside else "sigmoid"
    return "none" if all(_sums_to_one(values) for values in outputs) else "softmax"


def probabilities(outputs: Tensor, activation: str | None = None) -> Tensor:
    """Probabilities of outputs [..., classes].

    Args:
        outputs: What a network returned.
        activation: ``"softmax"``, ``"sigmoid"``, or ``"none"`` for outputs that are probabilities; None: as
            :func:`activation_of` finds.

    Raises:
        ValueError: another activation.
    """
    if activation is None:
        activation = activation_of(outputs)
    if activation not in ACTIVATIONS:
        raise ValueError(f"probability: expected activation one of {', '.join(ACTIVATIONS)}, got {activation!r}")
    if activation == "none":
        return outputs
    return outputs.softmax(-1) if activation == "softmax" else outputs.sigmoid()


def _sums_to_one(values: Tensor) -> bool:
    """Rows of a softmax: each value is rounded once to its type, and half types sum in float32."""
    if not values.is_floating_point():
        return False
    rounding, single = torch.finfo(values.dtype).eps, torch.finfo(torch.float32).eps
    allowed = 4 * rounding + 2 * values.shape[-1] * min(rounding, single)
    return bool((values >= 0).all()) and bool(((values.double().sum(-1) - 1).abs() <= allowed).all())

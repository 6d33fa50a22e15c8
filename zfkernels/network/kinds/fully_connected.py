"""Fully connected layers of whole values: a matrix product for each position, and the activation function behind it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from zfkernels.network.kinds.base import Kind, Scene, arguments, op_name, source
from zfkernels.network.kinds.products import RELU, Activation, activation_of, multiply
from zfkernels.network.kinds.whole import Whole
from zfkernels.network.recording import Step


class FullyConnected(Whole):
    """``F.linear`` with a weight and a bias that do not depend on the images."""

    kind = "fully connected"

    def __init__(self, step: Step, scene: Scene, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__(step, scene)
        self.weight, self.bias = weight, bias
        self.activation: Activation | None = None

    @classmethod
    def recognise(cls, step: Step, scene: Scene) -> Kind | None:
        if op_name(step) != "linear":
            return None
        bound = arguments(step)
        weight, bias = bound["weight"], bound["bias"]
        fixed = isinstance(weight, Tensor) and (bias is None or isinstance(bias, Tensor))
        if not fixed or source(bound["input"]) is None:
            return None
        return cls(step, scene, weight, bias)

    def activated_by(self, other: Kind) -> Kind | None:
        if self.activation is not None or len(other.steps) != 1:
            return None
        found = RELU if other.rectifies else activation_of(other.step)
        return None if found is None else self.joined(other, activation=found)

    @property
    def parameters(self) -> int:
        return self.weight.numel()

    def run(self, values: Mapping[str, Any], batch: int) -> Tensor:
        return multiply(values[self.inputs[0]], self.weight, self.bias, self.activation)

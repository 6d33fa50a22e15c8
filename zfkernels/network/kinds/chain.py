"""Several steps as one: where values in between do not have an axis of images in front, no signal stops at them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch

from zfkernels.geometry import Boxes
from zfkernels.network.kinds.base import Kind, Scene, whole
from zfkernels.network.kinds.signals import Rules, ruled
from zfkernels.network.recording import Step


class Chain(Kind):
    """What a signal goes down through at once, by the derivative of all of it.

    Args:
        kinds: the steps, in order; the last has the name and the value of them all.
        inputs: names of the steps that they read.
        scene: of the network.
        rules: for rectifiers among the steps.
    """

    kind = "several steps"
    on_windows = False

    def __init__(self, kinds: tuple[Kind, ...], inputs: tuple[str, ...], scene: Scene, rules: Rules) -> None:
        last = kinds[-1]
        super().__init__(last.step, scene, last.maps, inputs)
        self.steps = tuple(kind.step for kind in kinds)
        self.kinds, self.rules = kinds, rules

    @classmethod
    def recognise(cls, step: Step, scene: Scene) -> Kind | None:
        return None  # no single step is one

    def read(self, outputs: Boxes) -> tuple[Boxes, ...]:
        return tuple(whole(outputs, (1, 1) if below is None else below.frame) for below in self.below)

    def run(self, values: Mapping[str, Any], batch: int) -> Any:
        known = dict(values)
        for kind in self.kinds:
            rule = kind.rule(self.rules)
            if rule is not None and torch.is_grad_enabled():
                known[kind.name] = ruled(known[kind.inputs[0]], partial(_alone, kind, batch), rule)
            else:
                known[kind.name] = kind.run(known, batch)
        return known[self.name]


def _alone(kind: Kind, batch: int, x: Any) -> Any:
    """The value of a step of one input."""
    return kind.run({kind.inputs[0]: x}, batch)

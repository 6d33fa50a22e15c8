"""Rectifiers, however they are written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from zfkernels.network.kinds.base import Kind, Scene, arguments, op_name, source
from zfkernels.network.kinds.pointwise import Pointwise, pointwise_maps
from zfkernels.network.kinds.signals import Rule, Rules
from zfkernels.network.maps import Maps
from zfkernels.network.recording import Ref, Step
from zfkernels.windows import Layout

OTHERS = {"relu6", "leaky_relu"}


class VectorRectifier(Kind):
    """A rectifier of values without maps."""

    kind = "rectifier"
    is_rectifier = True
    on_windows = False

    def __init__(self, step: Step, scene: Scene, name: str, plain: bool) -> None:
        super().__init__(step, scene, None, (name,))
        self.rectifies = plain

    @classmethod
    def recognise(cls, step: Step, scene: Scene) -> Kind | None:
        name = _rectified(step, scene)
        plain = name is not None
        if name is None and _is_soft(step) and len(step.inputs) == 1:
            name = step.inputs[0]
        return None if name is None or scene.maps(name) is not None else cls(step, scene, name, plain)

    def run(self, values: Mapping[str, Any], batch: int) -> Any:
        return torch.relu(values[self.inputs[0]]) if self.rectifies else super().run(values, batch)

    def rule(self, rules: Rules) -> Rule | None:
        return torch.relu if self.rectifies or rules.soft_rectifiers else None


class Rectifier(Pointwise):
    """ReLU (also ``clamp_min(0)``, ``maximum(x, 0)``, ``threshold``, ``where(x > 0, x, 0)``), ReLU6, LeakyReLU."""

    kind = "rectifier"
    is_rectifier = True

    def __init__(self, step: Step, scene: Scene, maps: Maps | None, name: str, plain: bool) -> None:
        assert maps is not None
        super().__init__(step, scene, maps, (name,))
        self.rectifies = plain

    @classmethod
    def recognise(cls, step: Step, scene: Scene) -> Kind | None:
        name, maps = _rectified(step, scene), pointwise_maps(step, scene)
        if name is not None:
            return None if scene.maps(name) is None else cls(step, scene, scene.maps(name), name, True)
        if _is_soft(step) and maps is not None and len(step.inputs) == 1:
            return cls(step, scene, maps, step.inputs[0], False)
        return None

    def rule(self, rules: Rules) -> Rule | None:
        return torch.relu if self.rectifies or rules.soft_rectifiers else None

    def run(self, values: Mapping[str, Any], batch: int) -> Any:
        return torch.relu(values[self.inputs[0]]) if self.rectifies else super().run(values, batch)

    def on_cells(self, values: Mapping[str, Any], chunk: Any, layout: Layout) -> Tensor:
        return self.run(values, 1)


def _is_soft(step: Step) -> bool:
    """Whether a step is ReLU6 or LeakyReLU."""
    return op_name(step) in OTHERS or (op_name(step) == "hardtanh" and arguments(step)["min_val"] == 0)


def _rectified(step: Step, scene: Scene) -> str | None:
    """What a step computes max(x, 0) of."""
    name, bound = op_name(step), arguments(step)
    if name == "where":
        condition, kept = source(bound.get("condition")), source(bound.get("self"))
        if condition is None or kept is None or not _is_zero(bound.get("other")):
            return None
        test = scene.step(condition)
        compared = arguments(test)
        positive = op_name(test) in ("gt", "ge") and source(compared["self"]) == kept and _is_zero(compared["other"])
        return kept if positive else None
    x = source(bound.get("self"))
    plain = {
        "relu": lambda: True,
        "clamp_min": lambda: _is_zero(bound["min"]),
        "clamp": lambda: _is_zero(bound["min"]) and bound["max"] is None,
        "threshold": lambda: _is_zero(bound["threshold"]) and _is_zero(bound["value"]),
        "maximum": lambda: _is_zero(bound["other"]) or _is_zero(bound["self"]),
    }
    if name == "maximum" and x is None:
        x = source(bound["other"])
    return x if x is not None and name in plain and plain[name]() else None


def _is_zero(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.numel() == 1 and float(value) == 0
    return isinstance(value, (int, float)) and not isinstance(value, Ref) and value == 0

"""Local response normalisation: the module, which is kept whole, and the steps that the function comes apart into."""

from __future__ import annotations

from zfkernels.network.kinds.base import Kind, Scene, arguments, op_name, source
from zfkernels.network.kinds.cellwise import Cellwise
from zfkernels.network.kinds.pointwise import Pointwise, pointwise_maps
from zfkernels.network.kinds.reshaping import RESHAPES
from zfkernels.network.kinds.signals import Rule, Rules
from zfkernels.network.recording import Step


class ContrastNormalization(Cellwise):
    """``F.local_response_norm``: each cell is divided by a sum over its neighbouring channels."""

    kind = "contrast normalisation"
    keeps_sign = True

    @classmethod
    def recognise(cls, step: Step, scene: Scene) -> Kind | None:
        return super().recognise(step, scene) if op_name(step) == "local_response_norm" else None

    def rule(self, rules: Rules) -> Rule | None:
        return (lambda signal: signal) if rules.contrast_normalization else None


class ContrastDivision(Pointwise):
    """The last of the steps: x / (k + alpha * mean of x² over neighbouring channels) ** beta."""

    kind = "contrast normalisation"

    @classmethod
    def recognise(cls, step: Step, scene: Scene) -> Kind | None:
        maps = pointwise_maps(step, scene) if op_name(step) == "div" else None
        x = source(arguments(step)["self"]) if maps is not None else None
        if maps is None or x is None or _normalised_by(source(arguments(step)["other"]), scene) != x:
            return None
        return cls(step, scene, maps)

    def rule(self, rules: Rules) -> Rule | None:
        return (lambda signal: signal) if rules.contrast_normalization else None


def _normalised_by(name: str | None, scene: Scene) -> str | None:
    """The step whose squares a divisor of this form is made of; None for any other."""
    forms = (("pow",), ("add",), ("mul",), ("avg_pool3d", "avg_pool2d"), ("pad", "constant_pad_nd"))
    for ops in forms:
        step = _behind_views(name, scene)
        if step is None or op_name(step) not in ops or len(step.inputs) != 1:
            return None
        name = step.inputs[0]
    step = _behind_views(name, scene)
    if step is None or op_name(step) not in ("mul", "pow", "square") or len(step.inputs) != 1:
        return None
    if op_name(step) == "pow" and arguments(step)["exponent"] != 2:
        return None
    return step.inputs[0] if op_name(step) != "mul" or step.args[0] == step.args[1] else None


def _behind_views(name: str | None, scene: Scene) -> Step | None:
    step = None if name is None else scene.step(name)
    while step is not None and op_name(step) in RESHAPES:
        step = scene.step(step.inputs[0])
    return step

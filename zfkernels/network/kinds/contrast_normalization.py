"""Local response normalisation, as a module or function that is kept whole."""

from __future__ import annotations

from zfkernels.network.kinds.base import Kind, Scene, op_name
from zfkernels.network.kinds.cellwise import Cellwise
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

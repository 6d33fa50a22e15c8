"""Everything else: steps that run on whole values, one for each position."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from zfkernels.geometry import Boxes
from zfkernels.network.kinds.base import Kind, Scene, arguments, op_name, sizes_of, whole
from zfkernels.network.kinds.linear import is_affine
from zfkernels.network.kinds.reshaping import ORDERS, RESHAPES, SAME
from zfkernels.network.kinds.signals import Descent, Rule, Rules, Signal
from zfkernels.network.maps import Maps
from zfkernels.network.recording import Ref, Sized, Step
from zfkernels.network.tree import map_leaves

COUNTED = (
    "linear", "matmul", "mm", "bmm", "addmm", "baddbmm", "einsum", "bilinear", "scaled_dot_product_attention",
    "conv1d", "conv2d", "conv3d", "convolution", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d",
)  # fmt: skip

PASSING = SAME | RESHAPES | ORDERS  # which only move numbers


class Whole(Kind):
    """Any operation: nothing is known of it but that it was recorded."""

    kind = "whole"
    on_windows = False

    def __init__(self, step: Step, scene: Scene) -> None:
        below = scene.maps(step.inputs[0]) if step.inputs else None
        sizes = sizes_of(step)
        planar = below is not None and below.is_planar and sizes is not None and len(sizes) == 3
        # Windows do not pass it; that its value is maps matters for what can be folded behind it.
        super().__init__(step, scene, Maps.planar(sizes[0], (sizes[1], sizes[2])) if planar and sizes else None)
        self.scene = scene
        self.makes_new, self.keeps_sign = op_name(step) in COUNTED, op_name(step) in PASSING

    @classmethod
    def recognise(cls, step: Step, scene: Scene) -> Kind | None:
        return cls(step, scene)

    @property
    def is_affine(self) -> bool:
        return is_affine(self.step)

    def rule(self, rules: Rules) -> Rule | None:
        passes = rules.contrast_normalization and op_name(self.step) == "local_response_norm"
        return (lambda signal: signal) if passes else None

    def send_down(self, signal: Signal, descent: Descent) -> Iterator[tuple[str, Signal]]:
        bound = arguments(self.step) if op_name(self.step) == "linear" else {}
        weight = bound.get("weight")
        if isinstance(weight, Tensor) and isinstance(signal, Tensor):
            yield self.inputs[0], signal @ weight.detach()
        else:
            yield from super().send_down(signal, descent)

    def read(self, outputs: Boxes) -> tuple[Boxes, ...]:
        return tuple(whole(outputs, (1, 1) if below is None else below.frame) for below in self.below)

    @cached_property
    def multiply_adds_of_an_image(self) -> int:
        """Counted by torch's formulas, on tensors without numbers."""
        if op_name(self.step) not in COUNTED:
            return 0

        def empty(leaf: Any) -> Any:
            if isinstance(leaf, Ref):
                step = self.scene.step(leaf.name)
                shape = [size.at(1) if isinstance(size, Sized) else size for size in step.shape]
                return torch.empty(shape, dtype=step.dtype, device="meta")
            if isinstance(leaf, Sized):
                return leaf.at(1)
            return leaf.detach().to("meta") if isinstance(leaf, Tensor) else leaf

        args, kwargs = map_leaves(empty, self.step.args), map_leaves(empty, self.step.kwargs)
        assert self.step.op is not None
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            self.step.op(*args, **kwargs)
        return counter.get_total_flops() // 2

    @property
    def multiply_adds(self) -> int:
        cells = self.maps.frame[0] * self.maps.frame[1] if self.maps is not None else 1
        return self.multiply_adds_of_an_image // cells

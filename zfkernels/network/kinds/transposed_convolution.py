"""Transposed convolutions with fixed filters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch.nn.functional as F
from torch import Tensor

from zfkernels.geometry import Boxes, Sliding, inputs_read, outputs_touched
from zfkernels.network.kinds.base import Chunk, Kind, Scene, arguments, op_name, pair
from zfkernels.network.kinds.blocks import Blocks
from zfkernels.network.kinds.signals import Descent, Signal
from zfkernels.network.kinds.sliding import planar_step
from zfkernels.network.maps import Maps
from zfkernels.network.recording import Step
from zfkernels.ops import unpool_relu_conv_transpose2d, window_conv2d
from zfkernels.windows import Windows


class TransposedConvolution(Blocks):
    """``F.conv_transpose2d`` with a weight and a bias that do not depend on the images.

    Where no two of its blocks overlap (the stride is the kernel) it is a matrix product.
    """

    kind = "transposed convolution"

    def __init__(
        self, step: Step, scene: Scene, maps: Maps, weight: Tensor, bias: Tensor | None, sliding: Sliding, groups: int
    ) -> None:
        super().__init__(step, scene, maps, sliding.stride)
        self.weight, self.sliding, self.groups = weight.detach(), sliding, groups
        self.bias = None if bias is None else bias.detach()
        self.is_product = sliding == Sliding(sliding.kernel, sliding.kernel) and groups == 1
        self.composed = Blocks.composed if self.is_product else ""
        self.matrix = self.weight.permute(2, 3, 1, 0).reshape(-1, weight.shape[0])  # [kh kw C_out, C]

    @classmethod
    def recognise(cls, step: Step, scene: Scene) -> Kind | None:
        bound = arguments(step)
        transposed = op_name(step) == "conv_transpose2d" or (op_name(step) == "convolution" and bound["transposed"])
        maps = planar_step(step, scene, bound["input"]) if transposed else None
        weight, bias = bound.get("weight"), bound.get("bias")
        if maps is None or not isinstance(weight, Tensor) or not (bias is None or isinstance(bias, Tensor)):
            return None
        if weight.dim() != 4:
            return None
        kernel, (stride, padding, dilation) = (
            (weight.shape[2], weight.shape[3]),
            [pair(bound[name]) for name in ("stride", "padding", "dilation")],
        )
        return cls(step, scene, maps[1], weight, bias, Sliding(kernel, stride, padding, dilation), bound["groups"])

    def touched(self, changed: Sequence[Boxes]) -> Boxes:
        assert self.maps is not None
        return inputs_read(changed[0], self.sliding, self.maps.frame)

    def read(self, outputs: Boxes) -> tuple[Boxes, ...]:
        assert self.below[0] is not None
        return (outputs_touched(outputs, self.sliding, self.below[0].frame),)

    def blocks_of(self, values: Tensor) -> Tensor:
        return F.linear(values, self.matrix).view(len(values), self.size[0] * self.size[1], -1)

    def run_on_windows(self, chunk: Chunk) -> Windows:
        assert self.maps is not None
        if self.is_product:
            value = super().run_on_windows(chunk)
        else:
            (name,), s = self.inputs, self.sliding
            value = unpool_relu_conv_transpose2d(
                chunk.windows(name), None, self.weight, chunk.frames(name), stride=s.stride, padding=s.padding,
                dilation=s.dilation, groups=self.groups, output_size=self.maps.frame, rectify=False,
                out_boxes=chunk.layout(self.name), backend=chunk.backend,
            )  # fmt: skip
        if self.bias is not None:
            value.values.add_(self.bias)
        return value

    def send_down(self, signal: Signal, descent: Descent) -> Iterator[tuple[str, Signal]]:
        """As the convolution that it is the transpose of."""
        assert isinstance(signal, Windows)
        (name,), s = self.inputs, self.sliding
        yield name, window_conv2d(
            signal, None, self.weight, stride=s.stride, padding=s.padding, dilation=s.dilation, groups=self.groups,
            out_boxes=descent.layout(name), backend=descent.backend,
        )  # fmt: skip

    @property
    def multiply_adds(self) -> int:
        """For one cell, the mean over the phases of the stride."""
        return self.weight.numel() // (self.size[0] * self.size[1])

    @property
    def needs_frames(self) -> bool:
        return not self.is_product

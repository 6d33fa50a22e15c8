"""Convolutions with fixed filters; a scale of each map and a ReLU behind one are folded in."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from zfkernels.geometry import Sliding
from zfkernels.network.kinds.base import Chunk, Kind, Scene, arguments, op_name, pair, signature
from zfkernels.network.kinds.products import RELU, Activation, activation_of, convolve, multiply
from zfkernels.network.kinds.signals import Descent, Pooled, Rules, Signal
from zfkernels.network.kinds.sliding import SlidingKind, planar_step
from zfkernels.network.maps import Maps
from zfkernels.network.recording import Step
from zfkernels.ops import occluded_conv2d, unpool_relu_conv_transpose2d, window_conv2d
from zfkernels.windows import Windows

# The transforms of tiles, for one channel of one cell, take the time of so many multiply-adds (notes/winograd.md).
TRANSFORM = 94


class Convolution(SlidingKind):
    """``F.conv2d`` with a weight and a bias that do not depend on the images."""

    kind = "convolution"
    unpools = makes_new = True

    def __init__(
        self, step: Step, scene: Scene, maps: Maps, weight: Tensor, bias: Tensor | None, sliding: Sliding, groups: int
    ) -> None:
        super().__init__(step, scene, maps)
        self.weight = weight.detach().contiguous(memory_format=torch.channels_last)
        self.bias = None if bias is None else bias.detach()
        self.sliding, self.groups, self.relu = sliding, groups, False
        self.then: Activation | None = None  # other than the ReLU

    @classmethod
    def recognise(cls, step: Step, scene: Scene) -> Kind | None:
        if op_name(step) not in ("conv2d", "convolution"):
            return None
        bound = arguments(step)
        weight, bias, maps = bound["weight"], bound["bias"], planar_step(step, scene, bound["input"])
        fixed = isinstance(weight, Tensor) and (bias is None or isinstance(bias, Tensor))
        if maps is None or not fixed or weight.dim() != 4 or bound.get("transposed"):
            return None
        kernel, dilation = (weight.shape[2], weight.shape[3]), pair(bound["dilation"])
        padding = bound["padding"]
        if isinstance(padding, str):
            total = [(kernel[axis] - 1) * dilation[axis] if padding == "same" else 0 for axis in (0, 1)]
            if any(cells % 2 for cells in total):  # one more cell of padding behind than before
                return None
            padding = [cells // 2 for cells in total]
        sliding = Sliding(kernel, pair(bound["stride"]), pair(padding), dilation)
        return cls(step, scene, maps[1], weight, bias, sliding, bound["groups"])

    def followed_by(self, other: Kind) -> Kind | None:
        if self.activation is not None:
            return None
        if other.rectifies:
            return self.joined(other, relu=True)
        if other.affine is not None:
            scale, shift = (part.to(self.weight.device) for part in other.affine)
            weight = (self.weight.to(scale) * scale[:, None, None, None]).to(self.weight)
            bias = shift if self.bias is None else self.bias.to(scale) * scale + shift
            weight = weight.contiguous(memory_format=torch.channels_last)
            return self.joined(other, weight=weight, bias=bias.to(self.weight))
        return None

    def activated_by(self, other: Kind) -> Kind | None:
        found = activation_of(other.step) if len(other.steps) == 1 and self.activation is None else None
        return None if found is None else self.joined(other, then=found)

    @property
    def activation(self) -> Activation | None:
        """What each number of the value has gone through last."""
        return RELU if self.relu else self.then

    def share(self, made: dict[Any, Any]) -> None:
        key = tuple(map(signature, self.steps))
        # The steps are kept too: as long as they are, no other constant has the identity of one of theirs.
        self.weight, self.bias, _ = made.setdefault(key, (self.weight, self.bias, self.steps))

    def run(self, values: Mapping[str, Any], batch: int) -> Tensor:
        x = values[self.inputs[0]]
        return convolve(x, self.weight, self.bias, self.sliding, self.groups, self.activation)

    def run_on_windows(self, chunk: Chunk) -> Windows:
        layout = chunk.layout(self.name)
        if self._is_product:
            cells = chunk.windows(self.inputs[0]).values
            return layout.windows(multiply(cells, self.weight.flatten(1), self.bias, self.activation))
        found = self._convolve_windows(chunk)
        return found if self.then is None else layout.windows(self.then.in_place(found.values))

    def _convolve_windows(self, chunk: Chunk) -> Windows:
        (name,), layout, s = self.inputs, chunk.layout(self.name), self.sliding
        hidden = chunk.occluder(name)
        if hidden is not None:
            return occluded_conv2d(
                hidden.images, self.weight, self.bias, hidden.boxes, fill=hidden.fill, mask=hidden.mask,
                image=chunk.image, out_boxes=layout, stride=s.stride, padding=s.padding, dilation=s.dilation,
                groups=self.groups, relu=self.relu, backend=chunk.backend,
            )  # fmt: skip
        return window_conv2d(
            chunk.windows(name), chunk.frames(name), self.weight, self.bias, out_boxes=layout, stride=s.stride,
            padding=s.padding, dilation=s.dilation, groups=self.groups, relu=self.relu, backend=chunk.backend,
        )  # fmt: skip

    def clean_inputs(self, rules: Rules) -> Collection[str]:
        return ()

    def send_down(self, signal: Signal, descent: Descent) -> Iterator[tuple[str, Signal]]:
        (name,), s, below = self.inputs, self.sliding, self.below[0]
        assert below is not None
        if isinstance(signal, Windows) and self._is_product:
            cells = signal.values.relu() if self.relu else signal.values
            yield name, replace(signal, values=cells @ self.weight.flatten(1))
            return
        windows, switches, pooling = (
            (signal.windows, signal.switches, signal.pooling) if isinstance(signal, Pooled) else (signal, None, {})
        )
        assert isinstance(windows, Windows)
        yield name, unpool_relu_conv_transpose2d(
            windows, switches, self._taps, stride=s.stride, padding=s.padding, dilation=s.dilation,
            groups=self.groups, output_size=below.frame, out_boxes=descent.layout(name), overlap=descent.overlap,
            rectify=self.relu, backend=descent.backend, **pooling,
        )  # fmt: skip

    @property
    def multiply_adds(self) -> int:
        return self.weight.numel()

    @property
    def window_products(self) -> int:
        outputs, channels, *kernel = self.weight.shape
        plain = self.groups == 1 and self.sliding.stride == self.sliding.dilation == (1, 1)
        if not plain or kernel != [3, 3]:
            return self.multiply_adds
        return min(self.multiply_adds, 4 * outputs * channels + TRANSFORM * (outputs + channels))

    @property
    def filters(self) -> Tensor:  # type: ignore[override]
        return self.weight

    @property
    def needs_frames(self) -> bool:
        return not self._is_product

    @cached_property
    def _taps(self) -> Tensor:
        """The weight as the way down reads it."""
        return self.weight.contiguous()

    @property
    def _is_product(self) -> bool:
        """Whether it is a matrix product of each cell's channels, for which libraries are best."""
        return self.groups == 1 and self.sliding == Sliding((1, 1))

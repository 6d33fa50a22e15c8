"""A scale and a shift of each map: batch normalisation in eval mode, sums and products with a constant for each map."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from zfkernels.network.kinds.base import Chunk, Kind, Scene, arguments, op_name, sizes_of, source
from zfkernels.network.kinds.signals import Descent, Rules, Signal, changed
from zfkernels.network.maps import Maps
from zfkernels.network.recording import Ref, Step
from zfkernels.windows import Windows

Affine = tuple[Tensor, Tensor]


class ChannelAffine(Kind):
    """scale[c] * x + shift[c] on maps [N, C, H, W]."""

    kind = "scale and shift"
    makes_new = True

    def __init__(self, step: Step, scene: Scene, maps: Maps, affine: Affine, inputs: tuple[str, ...]) -> None:
        super().__init__(step, scene, maps, inputs)
        self.affine: Affine = affine
        self.relu = False
        self.cast: dict[Any, Affine] = {}  # by device and dtype, made by the first run

    @classmethod
    def recognise(cls, step: Step, scene: Scene) -> Kind | None:
        sizes, found = sizes_of(step), _scale_and_shift(step)
        if found is None or sizes is None:
            return None
        name, scale, shift = found
        maps = scene.maps(name)
        if maps is None or not maps.is_planar or scene.step(name).dtype != step.dtype or maps.sizes != sizes:
            return None
        each = [_for_each_map(value, maps.channels) for value in (scale, shift)]
        if each[0] is None or each[1] is None:
            return None
        return cls(step, scene, maps, (each[0], each[1]), (name,))

    def followed_by(self, other: Kind) -> Kind | None:
        if self.relu:
            return None
        if other.rectifies:
            return self.joined(other, relu=True)
        if other.affine is not None:
            scale, shift = other.affine
            return self.joined(other, affine=(self.affine[0] * scale, self.affine[1] * scale + shift), cast={})
        return None

    def run(self, values: Mapping[str, Any], batch: int) -> Tensor:
        if self.name == self.step.name:
            return self.step.run(values, batch)
        x = values[self.inputs[0]]
        scale, shift = self._like(x)
        value = torch.addcmul(shift[:, None, None], x, scale[:, None, None])
        return value.relu_() if self.relu else value

    def run_on_windows(self, chunk: Chunk) -> Windows:
        cells = chunk.windows(self.inputs[0]).values
        scale, shift = self._like(cells)
        value = torch.addcmul(shift, cells, scale)
        return chunk.layout(self.name).windows(value.relu_() if self.relu else value)

    def clean_inputs(self, rules: Rules) -> Collection[str]:
        return ()

    def send_down(self, signal: Signal, descent: Descent) -> Iterator[tuple[str, Signal]]:
        yield self.inputs[0], changed(signal, self._scaled)

    def _scaled(self, cells: Tensor) -> Tensor:
        return (cells.relu() if self.relu else cells) * self._like(cells)[0]

    def _like(self, x: Tensor) -> Affine:
        """Scale and shift on the device and in the dtype of ``x``."""
        key = x.device, x.dtype
        if key not in self.cast:
            self.cast[key] = self.affine[0].to(x), self.affine[1].to(x)
        return self.cast[key]


def _scale_and_shift(step: Step) -> tuple[str, Any, Any] | None:
    """The input, scale and shift of a step that has them."""
    name, bound = op_name(step), arguments(step)
    if name == "batch_norm" and not bound["training"] and bound["running_var"] is not None:
        return _norm(bound, bound["running_mean"], bound["running_var"])
    if name == "instance_norm" and not bound["use_input_stats"]:
        return _norm(bound, bound["running_mean"], bound["running_var"])
    if name not in ("add", "sub", "mul", "div", "rsub") or bound.get("rounding_mode") is not None:
        return None
    x, other, alpha = bound["self"], bound["other"], bound.get("alpha", 1)
    if isinstance(x, Ref) and isinstance(other, Ref):
        return None
    ours, constant = (source(x), other) if isinstance(x, Ref) else (source(other), x)
    if ours is None or not isinstance(constant, (int, float, Tensor)) or isinstance(constant, bool):
        return None
    if isinstance(constant, Tensor):
        constant = constant.detach().double()
    reversed_, alone = not isinstance(x, Ref), name == "rsub"
    if name == "add":
        return (ours, alpha, constant) if reversed_ else (ours, 1.0, constant * alpha)
    if name == "mul":
        return ours, constant, 0.0
    if name == "div":
        return None if reversed_ else (ours, 1 / constant, 0.0)
    if alone:
        return None if reversed_ else (ours, -alpha, constant)
    return (ours, -alpha, constant) if reversed_ else (ours, 1.0, -alpha * constant)


def _norm(bound: dict[str, Any], mean: Tensor, variance: Tensor) -> tuple[str, Any, Any] | None:
    name, weight, bias = source(bound["input"]), bound["weight"], bound["bias"]
    fixed = all(part is None or isinstance(part, Tensor) for part in (weight, bias, mean, variance))
    if name is None or not fixed:
        return None
    scale = torch.rsqrt(variance.detach().double() + bound["eps"])
    scale = scale if weight is None else scale * weight.detach().double()
    shift = -mean.detach().double() * scale
    return name, scale[:, None, None], (shift if bias is None else shift + bias.detach().double())[:, None, None]


def _for_each_map(value: Any, channels: int) -> Tensor | None:
    """float64 [C], on the CPU, of a number or of a tensor that is the same all over the frame of maps [N, C, H, W]."""
    is_meta = isinstance(value, Tensor) and value.is_meta  # a network without numbers
    value = torch.as_tensor(value, dtype=torch.float64, device="meta" if is_meta else "cpu")
    if (
        value.dim() > 4
        or tuple(value.shape[-2:]) not in ((), (1,), (1, 1))
        or tuple(value.shape[:-3]) not in ((), (1,))
    ):
        return None
    return value.flatten().expand(channels).contiguous()

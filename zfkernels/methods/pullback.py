"""One step of a network, downwards: from the signal at its output to the signal at its inputs.

The DeconvNet's rules: rectifiers pass max(signal, 0), contrast normalisation passes everything, batch normalisation
its scale, pooling and sums their adjoint, other functions their derivative at the clean activations. :class:`Rules` has
the choices that others make. Signals are windows (P crops, zero outside) or, for layers without maps, tensors [P, ...].
No autograd takes part, but for functions whose derivative is not written down here.

Source: Zeiler & Fergus 2013 (arXiv 1311.2901), section 2.1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from zfkernels.trace import AvgPool, Step
from zfkernels.trace.steps import BatchNorm, Gelu, LayerNorm, Linear
from zfkernels.windows import Pair, Windows, crop

# Derivative of a function of one number: (signal, input) -> signal times f'(input).
_aten = torch.ops.aten
_DERIVATIVES: dict[str, Callable[..., Tensor]] = {
    "silu": lambda g, x: _aten.silu_backward(g, x),
    "hardswish": lambda g, x: _aten.hardswish_backward(g, x),
    "hardsigmoid": lambda g, x: _aten.hardsigmoid_backward(g, x),
    "sigmoid": lambda g, x: _aten.sigmoid_backward(g, x.sigmoid()),
    "tanh": lambda g, x: _aten.tanh_backward(g, x.tanh()),
    "mish": lambda g, x: _aten.mish_backward(g, x),
    "exp": lambda g, x: g * x.exp(),
    "abs": lambda g, x: g * x.sign(),
    "neg": lambda g, x: -g,
}


@dataclass(frozen=True)
class Rules:
    """Which steps have a rule of their own; without it they pass the signal times their derivative.

    Attributes:
        soft_rectifiers: ReLU6 and LeakyReLU pass max(signal, 0), as ReLU does.
        contrast_normalization: LocalResponseNorm passes everything.
    """

    soft_rectifiers: bool = True
    contrast_normalization: bool = True

    def by_derivative(self, step: Step) -> bool:
        """Whether a step that could have a rule goes by its derivative."""
        soft = step.kind == "relu" and not step.rectifies
        return (soft and not self.soft_rectifiers) or (step.kind == "lrn" and not self.contrast_normalization)


DECONVNET = Rules()


def batch_norm_scale(norm: BatchNorm) -> Tensor:
    """[C]: what batch normalisation in eval mode multiplies each map with."""
    scale = torch.rsqrt(norm.running_var + norm.eps)
    return scale if norm.weight is None else scale * norm.weight


def gelu_derivative(approximate: str) -> Callable[..., Tensor]:
    return lambda g, x: _aten.gelu_backward(g, x, approximate=approximate)


def derivative_of(step: Step) -> Callable[..., Tensor] | None:
    """(signal, input) -> signal through a pointwise step's derivative, or None where only autograd knows it."""
    params = step.params
    if isinstance(params, Gelu):
        return gelu_derivative(params.approximate)
    if isinstance(params, LayerNorm):
        return lambda g, x: _layer_norm(g, x, params)
    if isinstance(params, Linear):
        return lambda g, x: g @ params.weight
    return _DERIVATIVES.get(step.name.rstrip("_0123456789"))


def divisor_map(pool: AvgPool, frame: Pair, out_frame: Pair, like: Tensor) -> Tensor:
    """[1, 1, Ho, Wo]: the reciprocal of the count that each average is divided by."""
    if pool.divisor is not None:
        return like.new_full((1, 1, *out_frame), 1.0 / pool.divisor)
    counts = []
    for axis in (0, 1):
        s = pool.sliding
        start = torch.arange(out_frame[axis], device=like.device) * s.stride[axis] - s.padding[axis]
        end = start + s.kernel[axis]
        if pool.count_include_pad:
            counts.append(end.clamp(max=frame[axis] + s.padding[axis]) - start)
        else:
            counts.append(end.clamp(max=frame[axis]) - start.clamp(min=0))
    return (1.0 / (counts[0][:, None] * counts[1][None, :]).to(like.dtype))[None, None]


def local(step: Step, signal: Windows, clean: Mapping[str, Tensor], rules: Rules) -> Windows:
    """The signal below a function of one cell; ``clean`` holds the value [N, ...] of its input where it is needed."""
    values, name = signal.values, step.inputs[0]
    if step.kind == "pointwise" or rules.by_derivative(step):
        here = crop(from_layout(clean[name], step.layout), signal.origins, signal.image, signal.size)
        grad = through(step, as_layout(values, step.layout), as_layout(here, step.layout))
        values = from_layout(grad, step.layout)
    elif step.kind == "relu":
        values = values.relu()
    elif step.kind == "batch_norm":
        values = values * batch_norm_scale(step.params)[:, None, None]
    elif step.kind == "scale":
        values = values * from_layout(step.call(torch.ones_like(as_layout(values, step.layout))), step.layout)
    elif step.kind == "channels":
        values = _other_way_round(step, values, clean[name].shape[1])
    return Windows(values, signal.origins, signal.image, signal.frame)


def _other_way_round(step: Step, values: Tensor, channels: int) -> Tensor:
    """The adjoint of a choice of channels, found by sending the channels' numbers through it."""
    numbers = torch.arange(channels, device=values.device)[None, :, None, None]
    index = step.call(numbers).flatten()
    return values.new_zeros((values.shape[0], channels, *values.shape[2:])).index_add_(1, index, values)


def vector(step: Step, signal: Tensor, rules: Rules) -> Tensor | None:
    """The signal [P, ...] below a step without maps, the same for all of its inputs; None: it has no rule."""
    if step.kind == "relu" and not rules.by_derivative(step):
        return signal.relu()
    if step.kind in ("identity", "add", "shift"):
        return signal
    if step.kind == "scale":
        return signal * step.call(torch.ones_like(signal))
    return signal @ step.params.weight if step.kind == "linear" else None


def through(step: Step, signal: Tensor, x: Tensor) -> Tensor:
    """The signal through the derivative of a step of one input, at ``x``, of the signal's shape."""
    derivative = derivative_of(step) if step.kind == "pointwise" else None
    if derivative is not None:
        return derivative(signal, x)
    (grad,) = through_autograd(step.call, signal, [x])
    assert grad is not None
    return grad


def through_autograd(call: Callable[..., Tensor], signal: Tensor, inputs: Sequence[Tensor]) -> list[Tensor | None]:
    """The gradient of a function that has no rule of its own, at ``inputs`` [P, ...]; None where it has none."""
    with torch.enable_grad():
        leaves = [x.detach().requires_grad_() if x.is_floating_point() else x for x in inputs]
        out = call(*leaves)
        moving = [leaf for leaf in leaves if leaf.requires_grad and out.requires_grad]
        signal = signal.contiguous()  # torch's gradient of an instance norm of one image is wrong for any other
        grads = iter(torch.autograd.grad(out, moving, signal, allow_unused=True) if moving else ())
    return [next(grads) if leaf.requires_grad and out.requires_grad else None for leaf in leaves]


def as_layout(values: Tensor, layout: str) -> Tensor:
    """Windows' values [P, C, h, w] as a step of ``layout`` takes them."""
    return values.permute(0, 2, 3, 1) if layout == "NHWC" else values


def from_layout(values: Tensor, layout: str) -> Tensor:
    """The other way round: a step's maps as [N, C, H, W]."""
    return values.permute(0, 3, 1, 2) if layout == "NHWC" else values


def _layer_norm(signal: Tensor, x: Tensor, norm: LayerNorm) -> Tensor:
    scaled = signal if norm.weight is None else signal * norm.weight
    mean = x.mean(-1, keepdim=True)
    inverse = torch.rsqrt(x.var(-1, unbiased=False, keepdim=True) + norm.eps)
    normal = (x - mean) * inverse
    return inverse * (scaled - scaled.mean(-1, keepdim=True) - normal * (scaled * normal).mean(-1, keepdim=True))

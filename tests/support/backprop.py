"""The DeconvNet by autograd, over full frames: the oracle of the DeconvNet's tests.

An activation's value is back-propagated with the backward of every rectifier replaced by max(g, 0), that of local
response normalisation by the identity and, for ``overlap="last"``, that of max-pooling by ``F.max_unpool2d``'s choice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


class _WithBackward(torch.autograd.Function):
    """``forward(x)``, and ``backward(gradient)`` as its gradient."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, forward: Callable[[Tensor], Tensor], backward: Callable[[Tensor], Tensor]
    ) -> Tensor:
        ctx.rule = backward
        return forward(x.clone())

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return ctx.rule(grad), None, None


class DeconvNetRules(TorchFunctionMode):
    """Inside it, functions of PyTorch have the DeconvNet's backward."""

    def __init__(self, overlap: str) -> None:
        super().__init__()
        self.overlap = overlap

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(function, "__name__", "").rstrip("_")
        limits = {**dict(zip(("min_val", "max_val"), args[1:3], strict=False)), **kwargs}
        is_relu6 = name == "hardtanh" and (limits["min_val"], limits["max_val"]) == (0, 6)  # what nn.ReLU6 calls
        if name in ("relu", "relu6", "leaky_relu") or is_relu6:
            out = _WithBackward.apply(
                args[0], lambda x: function(x, *args[1:], **kwargs), lambda grad: grad.clamp(min=0)
            )
            in_place = kwargs.get("inplace") or getattr(function, "__name__", "").endswith("_")
            return args[0].copy_(out) if in_place else out
        if name in ("batch_norm", "instance_norm"):  # torch's gradient is wrong for one image, channels last
            out = function(*args, **kwargs)
            if out.requires_grad:
                out.register_hook(lambda grad: grad.contiguous())
            return out
        if name == "local_response_norm":
            return _WithBackward.apply(args[0], lambda x: function(x, *args[1:], **kwargs), lambda grad: grad)
        if name.startswith("max_pool2d") and self.overlap == "last":
            _, places = F.max_pool2d(*args, **{**kwargs, "return_indices": True})
            return _WithBackward.apply(
                args[0], lambda x: function(x, *args[1:], **kwargs), lambda grad: _unpooled(grad, places, args[0].shape)
            )
        return function(*args, **kwargs)


def _unpooled(values: Tensor, places: Tensor, shape: torch.Size) -> Tensor:
    """One pooling window after the other, so that the last one wins."""
    out = values.new_zeros(shape).flatten(2)
    for row in range(values.shape[2]):
        for column in range(values.shape[3]):
            out.scatter_(2, places[:, :, row, column, None], values[:, :, row, column, None])
    return out.view(shape)


def projections(
    model: nn.Module, images: Tensor, layer: str, units: Tensor, overlap: str = "sum", call: int = -1
) -> Tensor:
    """[P, C, H, W]: units int [P, 4] (image, channel, row, column) of a module's output, in its ``call``-th call.

    A layer's output [N, h, w, C] or [N, units] is taken as maps too: the channel comes last, or is the unit.
    """
    outputs: list[Tensor] = []
    handle = model.get_submodule(layer).register_forward_hook(lambda module, args, out: outputs.append(out.clone()))
    leaf = images.clone().requires_grad_()
    try:
        with DeconvNetRules(overlap):
            model(leaf.clone())
    finally:
        handle.remove()
    maps = outputs[call] if outputs[call].dim() == 4 else outputs[call].flatten(1)[:, :, None, None]
    found = []
    for image, channel, row, column in units.tolist():
        value = maps[image, channel, row, column]
        (gradient,) = torch.autograd.grad(value, leaf, value.detach(), retain_graph=True)
        found.append(gradient[image])
    return torch.stack(found)


def some_units(maps: Tensor, count: int) -> Tensor:
    """Units of a layer's value [N, C, h, w] or [N, units], drawn at random, the last half of them not zero."""
    maps = maps if maps.dim() == 4 else maps.flatten(1)[:, :, None, None]
    generator = torch.Generator().manual_seed(2)
    anywhere = torch.stack([torch.randint(0, length, (count // 2,), generator=generator) for length in maps.shape], 1)
    alive = maps.nonzero()
    return torch.cat([anywhere, alive[torch.randint(0, len(alive), (count - count // 2,), generator=generator)]])


def assert_projections(found: Tensor, expected: Tensor, rtol: float = 1e-9) -> None:
    """Each projection close to its own, relative to its largest pixel; zero ones to the bit."""
    scale = expected.abs().amax((1, 2, 3))
    assert scale.gt(0).any()
    error = (found - expected).abs().amax((1, 2, 3))
    assert (error <= rtol * scale).all(), error / scale

"""Deconvolution by autograd, for what cannot be recorded: any module, several inputs, further arguments.

Every rectifier max(x, 0) that Python sees, as module, function or method, sends max(gradient, 0) down; all else its
gradient. The model is not changed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from zfkernels.captum_api.arguments import RefusedType, RefusedValue
from zfkernels.network import snapshot, users_context

_WRONG_AT_ONE_IMAGE = {F.instance_norm, torch.instance_norm}
_IN_PLACE = {F.relu_, torch.relu_, Tensor.relu_}
_RECTIFIERS = {F.relu, torch.relu, Tensor.relu, *_IN_PLACE}


class _Rectify(torch.autograd.Function):
    """max(x, 0), whose gradient is max(gradient, 0)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0].relu()


class _ContiguousGradient(torch.autograd.Function):
    """The identity. Torch's gradient of an instance norm of one image is wrong for one that is not contiguous."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0].contiguous()


class DeconvolvedRectifiers(TorchFunctionMode):
    """While active, each rectifier has the DeconvNet's rule as its gradient."""

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if function in _WRONG_AT_ONE_IMAGE:
            return _ContiguousGradient.apply(function(*args, **kwargs))
        if function not in _RECTIFIERS:
            return function(*args, **kwargs)
        x = args[0] if args else kwargs["input"]
        in_place = function in _IN_PLACE or kwargs.get("inplace", len(args) > 1 and args[1])
        rectified = _Rectify.apply(x)
        return x.copy_(rectified) if in_place else rectified


def run_and_differentiate(
    name: str, model: nn.Module, tensors: Sequence[Tensor], arguments: tuple[Any, ...], pick: Callable[[Any], Tensor]
) -> tuple[Tensor, ...]:
    """The gradient of the sum of ``pick(output)``, by the DeconvNet's rule, with respect to each input."""
    for tensor in tensors:
        if not tensor.is_floating_point():
            raise RefusedType(f"{name}: expected inputs of a floating dtype, got {tensor.dtype}")
    for path, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise RefusedType(
                f"{name}: expected a model whose rectifiers Python sees, got {path or 'a model'} compiled by torch.jit"
            )
    if any(tensor.is_inference() for tensor in (*model.parameters(), *model.buffers())):
        model = snapshot(model)  # autograd takes no tensor that was made under inference_mode
    arguments = tuple(_ordinary(argument) for argument in arguments)
    leaves = [_ordinary(tensor).detach().requires_grad_() for tensor in tensors]
    with torch.enable_grad():
        with users_context(), DeconvolvedRectifiers():
            output = model(*(leaf.clone() for leaf in leaves), *arguments)  # clones may be changed in place
        chosen = pick(output).sum()
        with users_context(), DeconvolvedRectifiers():  # checkpoints run parts of the model again
            return _gradients(chosen, leaves)


def _ordinary(value: Any) -> Any:
    """A tensor that autograd takes, anything else as it is."""
    return value.clone() if isinstance(value, Tensor) and value.is_inference() else value


def _gradients(output: Tensor, leaves: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """``torch.autograd.grad`` but that a function mode stays active inside; there it handles the whole call at once."""
    engine = torch.autograd.Variable._execution_engine
    return engine.run_backward(
        (output,), (torch.ones_like(output),), False, False, tuple(leaves),
        allow_unreachable=False, accumulate_grad=False,
    )  # fmt: skip


class LayerValue:
    """While active, keeps what a layer last gave (or took); one tensor, or a tuple of several."""

    def __init__(self, name: str, layer: nn.Module, of_input: bool) -> None:
        self.name, self.layer, self.of_input = name, layer, of_input
        self.seen: list[Any] = []

    def __enter__(self) -> LayerValue:
        if self.of_input:
            self.handle = self.layer.register_forward_pre_hook(lambda module, inputs: self._keep(inputs))
        else:
            self.handle = self.layer.register_forward_hook(lambda module, inputs, output: self._keep(output))
        return self

    def __exit__(self, *exception: object) -> None:
        self.handle.remove()

    def _keep(self, value: Any) -> None:
        values = value if isinstance(value, (tuple, list)) else (value,)
        kept = tuple(v.clone() for v in values)  # the network may go on to change them in place
        self.seen = [kept if len(kept) > 1 else kept[0]]

    def value(self) -> Any:
        """What the layer gave in its last call."""
        if not self.seen:
            raise RefusedValue(f"{self.name}: expected layer one that the model runs, got one that it does not")
        return self.seen[0]

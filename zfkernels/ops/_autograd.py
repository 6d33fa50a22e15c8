"""How the ops are differentiated: backwards and forwards, by autograd and by the transforms of ``torch.func``.

An op is one function for autograd as PyTorch's own are. ``torch.library.register_autograd`` knows no forward mode (a
tangent would be lost without a word) and refuses the transforms; so the kernel for autograd is made here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._functorch.utils import enable_single_level_autograd_function
from torch.autograd import forward_ad
from torch.autograd.function import _SingleLevelFunction
from torch.utils import _pytree as pytree

Formula = Callable[..., Any]


def autograd_kernel(op: Any, backward: Formula, setup_context: Formula | None, tangent: Formula | None) -> Formula:
    """The implementation of ``op`` for the dispatch key "Autograd".

    Args:
        op: the overload, such as ``torch.ops.zfkernels.<op>.default``.
        backward: (context, *gradients of the outputs) to the gradients of the arguments.
        setup_context: (context, inputs, keyword_only_inputs, output) keeps what ``backward`` needs.
        tangent: (arguments, tangents, output) to the tangents of the outputs; ``tangents`` has None where an argument
            has none. None: the op refuses tangents in words.
    """
    name = op._schema.name.partition("::")[2]

    def run(keys: torch._C.DispatchKeySet, args: Sequence[Any], backend: str | None) -> Any:
        with torch._C._AutoDispatchBelowAutograd():
            return op.redispatch(keys & torch._C._after_autograd_keyset, *args, backend=backend)

    class Differentiated(_SingleLevelFunction):  # a plain Function would hand its call to torch.func once more
        @staticmethod
        def forward(ctx: Any, keys: Any, backend: str | None, spec: Any, keep: bool, modes: Any, *leaves: Any) -> Any:
            args = pytree.tree_unflatten(list(leaves), spec)
            # Both are off in here. An outer transform, to which the call is handed on, has to see them as they were.
            with torch.set_grad_enabled(modes[0]), forward_ad._set_fwd_grad_enabled(modes[1]):
                output = run(keys, args, backend)
            if setup_context is not None:
                setup_context(ctx=ctx, inputs=args, keyword_only_inputs={"backend": backend}, output=output)
            ctx.primal = (args, output, modes) if keep else None  # until jvp below, which follows at once
            ctx.set_materialize_grads(not keep)
            return output

        @staticmethod
        def backward(ctx: Any, *gradients: Any) -> Any:
            before = ctx.needs_input_grad
            ctx.needs_input_grad = before[_OWN:]
            try:
                return (*[None] * _OWN, *backward(ctx, *gradients))
            finally:
                ctx.needs_input_grad = before

        @staticmethod
        def jvp(ctx: Any, *tangents: Any) -> Any:
            args, output, modes = ctx.primal
            ctx.primal = None
            if tangent is None:
                raise RuntimeError(f"{name}: it has no tangent; expected tensors without one (forward mode)")
            with torch.set_grad_enabled(modes[0]), forward_ad._set_fwd_grad_enabled(modes[1]):
                return tangent(*pytree.tree_map_only(Tensor, _primal, (args, tangents[_OWN:], output)))

    apply = Differentiated.apply  # type: ignore[attr-defined]

    def kernel(keys: torch._C.DispatchKeySet, *args: Any, backend: str | None = None) -> Any:
        leaves, spec = pytree.tree_flatten(args, _is_leaf)
        keep = forward_ad._current_level >= 0 and any(map(_has_tangent, leaves))
        if not keep and not (torch.is_grad_enabled() and torch._C._any_requires_grad(*leaves)):
            return run(keys, args, backend)
        with enable_single_level_autograd_function():
            modes = torch.is_grad_enabled(), torch._C._is_fwd_grad_enabled()
            return apply(keys, backend, spec, keep, modes, *leaves)

    return kernel


_OWN = 5  # arguments of Differentiated.forward before the op's


def _is_leaf(value: Any) -> bool:
    """Of lists, those of tensors come apart: autograd sees no tensor inside of a list."""
    return isinstance(value, (list, tuple)) and not any(isinstance(part, Tensor) for part in value)


def _primal(tensor: Tensor) -> Tensor:
    """A tensor without its tangent of the level at hand: a tangent has none itself."""
    return forward_ad.unpack_dual(tensor).primal


def _has_tangent(value: Any) -> bool:
    return isinstance(value, Tensor) and forward_ad.unpack_dual(value).tangent is not None

"""A copy of a model's modules that shares its parameters: what ``forward`` writes to ``self`` stays on the copy.

Other threads may run the model meanwhile, and afterwards it is as it was.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


def unwrapped(model: nn.Module) -> tuple[nn.Module, str]:
    """The module inside wrappers that compute nothing themselves, and its path in the wrapper.

    Wrappers: DataParallel, DistributedDataParallel and what ``torch.compile`` returns.
    """
    prefix = ""
    while True:
        attribute = ""
        if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            attribute = "module"
        elif "torch._dynamo" in sys.modules and isinstance(model, torch._dynamo.OptimizedModule):
            attribute = "_orig_mod"  # importing the compiler takes seconds: without it nothing is compiled
        if not attribute:
            return model, prefix
        model, prefix = getattr(model, attribute), f"{prefix}{attribute}."


def stand_in(model: nn.Module, tensor: Callable[[Tensor], Tensor] | None = None) -> tuple[nn.Module, dict[int, str]]:
    """The copy, and the path of each module of both, by its id; ``tensor`` (None: none) copies tensors."""
    twins: dict[int, nn.Module] = {}
    paths: dict[int, str] = {}
    for path, module in model.named_modules():
        twin = module if isinstance(module, torch.jit.ScriptModule) else object.__new__(type(module))
        twins[id(module)] = twin
        paths[id(module)] = paths[id(twin)] = path
    for module in model.modules():
        twin = twins[id(module)]
        if twin is not module:
            twin.__dict__.update({key: _copied(value, twins, tensor) for key, value in module.__dict__.items()})
    return twins[id(model)], paths


def snapshot(model: nn.Module) -> nn.Module:
    """A copy of a model with copies of its tensors: what happens to the model later is no matter.

    Tensors that are shared stay shared, those made under ``inference_mode`` become ordinary ones. Parts compiled by
    torch.jit are not copied.
    """
    copies: dict[int, Tensor] = {}

    def copied(tensor: Tensor) -> Tensor:
        if id(tensor) not in copies:
            with torch.inference_mode(False):
                copy = tensor.detach().clone()
            parameter = isinstance(tensor, nn.Parameter)
            copies[id(tensor)] = nn.Parameter(copy, tensor.requires_grad) if parameter else copy
        return copies[id(tensor)]

    return stand_in(model, copied)[0]


def _copied(value: Any, twins: dict[int, nn.Module], tensor: Callable[[Tensor], Tensor] | None) -> Any:
    """An attribute of the copy: modules are those of the copy, containers are new, everything else is shared."""
    if tensor is not None and isinstance(value, Tensor):
        return tensor(value)
    if id(value) in twins:
        return twins[id(value)]
    if isinstance(value, types.MethodType) and id(value.__self__) in twins:  # a forward replaced on an instance
        return types.MethodType(value.__func__, twins[id(value.__self__)])
    if type(value) in (list, tuple, set):
        return type(value)(_copied(part, twins, tensor) for part in value)
    if isinstance(value, dict) and type(value).__module__ in ("builtins", "collections"):
        made = value.copy()
        for key, part in value.items():
            made[key] = _copied(part, twins, tensor)
        return made
    return value

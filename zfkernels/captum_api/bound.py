"""Methods of modules as modules, so that ``Occlusion(model.forward)`` is as fast as ``Occlusion(model)``."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

from torch import nn


class Bound(nn.Module):
    """A module that calls a method of another one, which is a part of it. No hooks of the other run, as in the call."""

    def __init__(self, owner: nn.Module, method: Callable[..., Any]) -> None:
        super().__init__()
        self.owner, self.method = owner, method
        self.training = owner.training  # of this module alone: its parts stay as they are

    def forward(self, *args: Any) -> Any:
        return self.method(*args)


def as_module(function: Callable[..., Any]) -> Callable[..., Any]:
    """A method of an nn.Module as an nn.Module; anything else as it is."""
    owner = function.__self__ if isinstance(function, types.MethodType) else None
    return Bound(owner, function) if isinstance(owner, nn.Module) else function

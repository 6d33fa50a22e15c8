"""Values of any form: nested tuples, lists, dictionaries, named tuples, dataclasses and what is registered as a pytree.

``torch.utils._pytree`` alone takes a dataclass that nobody registered for a leaf, with the tensors inside it.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch.utils import _pytree

Function = Callable[[Any], Any]


def is_container(value: Any) -> bool:
    """Whether ``value`` holds other values that :func:`map_leaves` reaches."""
    return bool(
        type(value) in _pytree.SUPPORTED_NODES
        or isinstance(value, (tuple, list, Mapping))
        or (dataclasses.is_dataclass(value) and not isinstance(value, type) and not getattr(value, "is_leaf", False))
    )


def map_leaves(function: Function, value: Any) -> Any:
    """The same form with ``function`` applied to everything that is no container."""
    if not is_container(value):
        return function(value)
    if type(value) in _pytree.SUPPORTED_NODES and type(value) not in (tuple, list, dict):
        node = _pytree.SUPPORTED_NODES[type(value)]
        children, context = node.flatten_fn(value)
        return node.unflatten_fn([map_leaves(function, child) for child in children], context)
    if isinstance(value, Mapping):
        mapping: Any = copy.copy(value)
        for key in value:
            mapping[key] = map_leaves(function, value[key])
        return mapping
    if dataclasses.is_dataclass(value):
        made = copy.copy(value)
        for field in dataclasses.fields(value):
            if hasattr(value, field.name):
                object.__setattr__(made, field.name, map_leaves(function, getattr(value, field.name)))
        return made
    children = [map_leaves(function, child) for child in value]
    if isinstance(value, tuple):
        return type(value)(*children) if hasattr(value, "_fields") else type(value)(children)
    return children


def leaves(value: Any) -> Iterator[Any]:
    """The values that are no containers, in order."""
    found: list[Any] = []
    map_leaves(found.append, value)
    return iter(found)

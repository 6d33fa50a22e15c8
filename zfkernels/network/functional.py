"""The operation without side effects that does what an operation of ATen in place, or with ``out=``, does."""

from __future__ import annotations

import functools
from typing import Any

import torch

aten = torch.ops.aten


@functools.cache
def written(op: Any) -> tuple[tuple[int, str], ...]:
    """(position, name) of the arguments that an operation writes to."""
    return tuple(
        (index, argument.name)
        for index, argument in enumerate(op._schema.arguments)
        if argument.alias_info is not None and argument.alias_info.is_write
    )


@functools.cache
def is_viewing(op: Any) -> bool:
    """Whether an operation may return (part of) its argument's memory."""
    return any(argument.alias_info is not None for argument in op._schema.arguments)


@functools.cache
def functional(op: Any) -> Any:
    """The functional overload of an operation that writes to one argument, None without one."""
    space, _, name = op._schema.name.partition("::")
    packets = getattr(torch.ops, space)
    plain = name.removesuffix("_") if name.endswith("_") and not name.startswith("__i") else name
    if name.startswith("__i") and name.endswith("__"):
        plain = f"__{name[3:]}"
    packet = getattr(packets, plain, None)
    if packet is None:
        return None
    positions = [argument.name for argument in op._schema.arguments if not _is_out(argument)]
    for overload in sorted(packet.overloads(), key=lambda other: other != op._overloadname):
        found = getattr(packet, overload)
        if not written(found) and [argument.name for argument in found._schema.arguments] == positions:
            same = [str(a.type) for a in found._schema.arguments] == [
                str(a.type) for a in op._schema.arguments if not _is_out(a)
            ]
            if same:
                return found
    return None


def _is_out(argument: Any) -> bool:
    return bool(argument.kwarg_only and argument.alias_info is not None and argument.alias_info.is_write)


@functools.cache
def _switches(op: Any) -> tuple[tuple[int, str, Any], ...]:
    names = ("train", "training", "dropout_p", "dropout")
    arguments = op._schema.arguments
    return tuple((i, a.name, a.default_value) for i, a in enumerate(arguments) if a.name in names)


def is_random(op: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether an operation draws random numbers: dropout that is switched off does not."""
    if torch.Tag.nondeterministic_seeded not in op.tags:
        return False
    off = [not (args[i] if i < len(args) else kwargs.get(name, default)) for i, name, default in _switches(op)]
    return not any(off)

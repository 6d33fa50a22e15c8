"""What happened while a model ran once: operations without side effects, from what ATen was told to do.

Tensors that share memory are views of one :class:`Memory`. A write into one of them becomes a new value of the memory,
from which the others are read anew: ``z = y[:, 1:]; z += 1`` is a slice, an addition and a ``slice_scatter``.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

aten = torch.ops.aten
Scope = tuple[tuple[str, int], ...]  # (path, call) of each module, outermost first


@dataclass(frozen=True, slots=True)
class Value:
    """Stands for the value of an event among its later readers."""

    event: int
    is_leaf = True


@dataclass(slots=True)
class Event:
    """One operation without side effects.

    Attributes:
        op: what was called.
        args, kwargs: with :class:`Value` in place of tensors that were computed in this run.
        scope: modules that it happened in.
        tensor: its value: fake if it depends on the images, else real; None for several values.
        moving: whether it depends on the images.
    """

    op: Callable[..., Any] | None
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    scope: Scope
    tensor: Tensor | None
    moving: bool


@dataclass(slots=True)
class Memory:
    """What several tensors are views of.

    Attributes:
        value: the event that it holds now.
        version: how often it was written to.
        moving: whether it depends on the images.
        events: all events whose tensors lie in it.
    """

    value: int
    version: int
    moving: bool
    events: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Viewing:
    """How one view was made of another: ``op(tensor, *args)``, of several results the one at ``index``."""

    op: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    source: Tensor
    result: Tensor
    index: int | None = None


@dataclass(slots=True)
class View:
    """A tensor of the run: which memory it lies in, how it is read from it, and the event of its latest value."""

    tensor: Tensor
    memory: Memory
    chain: tuple[Viewing, ...]
    event: int
    version: int


class UnwritableError(Exception):
    """A write through a view that has no inverse."""


class Events:
    """The events of one run, and where its tensors stand."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.views: dict[int, View] = {}  # by id of the tensor, which the view keeps alive
        self.memories: dict[int, Memory] = {}  # by address of the storage
        self.scope: Scope = ()

    def add(self, op: Any, args: tuple[Any, ...], kwargs: dict[str, Any], tensor: Tensor | None) -> int:
        """Notes an operation on values; its number."""
        moving = any(self.events[value.event].moving for value in values_in((args, kwargs)))
        self.events.append(Event(op, args, kwargs, self.scope, tensor, moving))
        return len(self.events) - 1

    def add_input(self, images: Tensor) -> None:
        self.events.append(Event(None, (), {}, (), images, True))
        self.own(images, 0)

    def own(self, tensor: Tensor, event: int) -> None:
        """Notes a tensor in memory of its own, whose value is that of ``event``."""
        memory = Memory(event, 0, self.events[event].moving, [event])
        self.memories[_address(tensor)] = memory
        self.views[id(tensor)] = View(tensor, memory, (), event, 0)

    def see(self, how: Viewing, event: int) -> None:
        """Notes a tensor that was made as a view of another one (or, of an unknown one, in memory that is not ours)."""
        source = self.views.get(id(how.source))
        if source is None:
            self.views[id(how.result)] = View(how.result, Memory(event, 0, False), (), event, 0)
            return
        source.memory.events.append(event)
        view = View(how.result, source.memory, (*source.chain, how), event, source.memory.version)
        self.views[id(how.result)] = view

    def is_ours(self, tensor: Tensor) -> bool:
        """Whether a tensor's memory was made in this run."""
        return _address(tensor) in self.memories

    def is_view_of(self, tensor: Tensor, others: Iterator[Tensor]) -> Tensor | None:
        """The first of ``others`` in whose memory ``tensor`` lies."""
        address = _address(tensor)
        return next((other for other in others if _address(other) == address), None)

    def is_moving(self, tensor: Tensor) -> bool:
        """Whether a tensor depends on the images."""
        view = self.views.get(id(tensor))
        return view is not None and view.memory.moving

    def read(self, tensor: Tensor) -> Value | Tensor:
        """The present value of a tensor: of one that was not made in this run the tensor itself."""
        view = self.views.get(id(tensor))
        if view is None:
            return tensor
        if view.version != view.memory.version:
            value = view.memory.value
            for how in view.chain:
                value = self._view_again(how, value, view.memory)
            view.event, view.version = value, view.memory.version
        return Value(view.event)

    def write(self, tensor: Tensor, event: int) -> None:
        """Makes the value of ``event`` the present one of ``tensor``, and of all that shares its memory.

        Raises:
            UnwritableError: the tensor is a view that no value can be put back through.
        """
        view = self.views[id(tensor)]
        bases = [view.memory.value]
        for how in view.chain[:-1]:
            bases.append(self._view_again(how, bases[-1], view.memory))
        value = event
        for how, base in zip(reversed(view.chain), reversed(bases), strict=True) if view.chain else ():
            op, args = _put_back(how, Value(base), Value(value))
            value = self.add(op, args, {}, how.source)
        memory = view.memory
        memory.value, memory.version, memory.moving = value, memory.version + 1, self.events[value].moving
        memory.events += [value, event]
        view.event, view.version = event, memory.version

    def before_write(self, tensor: Tensor) -> None:
        """Keeps what earlier events found in real memory that is about to change."""
        memory = self.views[id(tensor)].memory
        for index in () if memory.moving else memory.events:
            seen = self.events[index].tensor
            self.events[index].tensor = None if seen is None else seen.clone()
        memory.events = []

    def fold(self, start: int, op: Any, args: tuple[Any, ...], result: Tensor) -> None:
        """Puts one event in place of all from ``start`` on, of which only ``result`` is read later."""
        inside = [key for key, view in self.views.items() if view.event >= start and view.tensor is not result]
        for key in inside:
            del self.views[key]
        del self.events[start:]
        self.own(result, self.add(op, args, {}, result))

    def _view_again(self, how: Viewing, value: int, memory: Memory) -> int:
        again = self.add(how.op, (Value(value), *how.args), how.kwargs, how.result if how.index is None else None)
        if how.index is not None:
            again = self.add(operator.getitem, (Value(again), how.index), {}, how.result)
        memory.events.append(again)
        return again


def values_in(tree: Any) -> Iterator[Value]:
    """The values among arguments, which nest in tuples, lists and dictionaries only."""
    if isinstance(tree, Value):
        yield tree
    elif isinstance(tree, (tuple, list)):
        for part in tree:
            yield from values_in(part)
    elif isinstance(tree, dict):
        yield from values_in(tuple(tree.values()))


def map_tensors(function: Callable[[Tensor], Any], tree: Any) -> Any:
    """Arguments with ``function`` applied to their tensors."""
    if isinstance(tree, Tensor):
        return function(tree)
    if isinstance(tree, (tuple, list)):
        return type(tree)(map_tensors(function, part) for part in tree) if type(tree) in (tuple, list) else tree
    if isinstance(tree, dict):
        return {key: map_tensors(function, part) for key, part in tree.items()}
    return tree


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


_RESHAPES = {
    "reshape", "view", "flatten", "unflatten", "squeeze", "unsqueeze", "view_as", "reshape_as", "_unsafe_view",
}  # fmt: skip
_SAME = {"alias", "detach", "contiguous", "lift_fresh", "to", "type_as", "dropout", "feature_dropout", "alpha_dropout"}
_PIECES = {"chunk", "split", "split_with_sizes", "tensor_split", "unsafe_chunk", "unsafe_split"}


def _put_back(how: Viewing, base: Value, value: Value) -> tuple[Any, tuple[Any, ...]]:
    """The operation that puts ``value`` into ``base`` where the view lies, and its arguments."""
    name = how.op._schema.name.split("::")[1]
    shape, dims = tuple(how.source.shape), how.source.dim()
    given = _given(how)
    if name in _SAME and how.source.shape == how.result.shape:
        return aten.alias.default, (value,)
    if name in _RESHAPES:
        return aten.reshape.default, (value, list(shape))
    if name == "slice":
        keys = ("dim", "start", "end", "step")
        return aten.slice_scatter.default, (base, value, *(given[key] for key in keys))
    if name == "narrow":
        start, length = given["start"], given["length"]
        return aten.slice_scatter.default, (base, value, given["dim"], start, start + length, 1)
    if name == "select":
        return aten.select_scatter.default, (base, value, given["dim"], given["index"])
    if name == "diagonal":
        return aten.diagonal_scatter.default, (base, value, given["offset"], given["dim1"], given["dim2"])
    if name in ("transpose", "swapaxes", "swapdims"):
        return aten.transpose.int, (value, *how.args)
    if name == "t":
        return aten.t.default, (value,)
    if name == "permute":
        order = [d % dims for d in given["dims"]]
        return aten.permute.default, (value, [order.index(d) for d in range(dims)])
    if name == "unbind" and how.index is not None:
        return aten.select_scatter.default, (base, value, given["dim"], how.index)
    if name in _PIECES and how.index is not None:
        dim = given["dim"]
        start = how.result.storage_offset() - how.source.storage_offset()
        start //= how.source.stride(dim)
        return aten.slice_scatter.default, (base, value, dim, start, start + how.result.shape[dim], 1)
    raise UnwritableError(name)


def _given(how: Viewing) -> dict[str, Any]:
    """The arguments behind the tensor by name, defaults included."""
    arguments = how.op._schema.arguments[1:]
    names = {argument.name: argument.default_value for argument in arguments}
    return {**names, **dict(zip(names, how.args, strict=False)), **how.kwargs}

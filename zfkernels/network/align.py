"""Two runs of a model on batches of different sizes → the steps of a network for a batch of any size.

What is the same in both runs is constant. An int that differs is ``scale * N + offset``. A tensor that does not depend
on the images but differs becomes steps of its own: the operations that made it.
"""

from __future__ import annotations

import operator
from collections import Counter
from typing import Any

import torch
from torch import Tensor

from zfkernels.network.events import Event, Events, Value
from zfkernels.network.recording import INPUT, Opaque, Ref, Sized, Step
from zfkernels.network.refusals import UnrecordableError
from zfkernels.network.tree import map_leaves

aten = torch.ops.aten
_OTHER_LAYOUTS = {aten.view.default, aten._unsafe_view.default}  # images may come in another memory format


class Alignment:
    """Pairs the events of two runs.

    Args:
        runs: their events.
        batches: how many images they had.
        calls: how often each module was called, by path. No step gets a module's name.
    """

    def __init__(self, runs: tuple[Events, Events], batches: tuple[int, int], calls: Counter[str]) -> None:
        self.first, self.second = runs
        self.batches, self.calls = batches, calls
        self.steps: list[Step] = [self._input()]
        self.names: dict[tuple[int, int], str] = {(0, 0): INPUT}
        self.used: Counter[str] = Counter({INPUT: 0})
        pairs = [[i for i, event in enumerate(run.events) if event.moving] for run in runs]
        if len(pairs[0]) != len(pairs[1]):
            raise UnrecordableError("it does other things for another number of images")
        for a, b in zip(*pairs, strict=True):
            if a:
                self._step(a, b)

    def tree(self, first: Any, second: Any) -> Any:
        """An output with :class:`Ref` for what depends on the images or their number."""
        others: list[Any] = []
        map_leaves(others.append, second)
        rest = iter(others)

        def pair(leaf: Any) -> Any:
            other = next(rest, None)
            if isinstance(leaf, (Value, Tensor)) or leaf is None or isinstance(leaf, (int, float, str, bytes)):
                return self._leaf(leaf, other)
            known = isinstance(leaf, (torch.Size, torch.dtype, torch.device))
            return leaf if known else Opaque(type(leaf).__name__)

        return map_leaves(pair, first)

    def _input(self) -> Step:
        images = self.first.events[0].tensor
        assert images is not None
        return Step(INPUT, None, (), {}, (), (), (Sized(1, 0), *images.shape[1:]), images.dtype)

    def _step(self, a: int, b: int) -> str:
        """The name of the step for a pair of events, which is made if it is not there yet."""
        if (a, b) in self.names:
            return self.names[a, b]
        first, second = self.first.events[a], self.second.events[b]
        if first.op is not second.op or len(first.args) != len(second.args):
            raise UnrecordableError("it does other things for another number of images", _place(first))
        args = tuple(self._leaf(x, y, first) for x, y in zip(first.args, second.args, strict=True))
        keywords = {key: self._leaf(value, second.kwargs.get(key), first) for key, value in first.kwargs.items()}
        op = aten.reshape.default if first.op in _OTHER_LAYOUTS else first.op
        name = self._name(op)
        inputs = tuple(dict.fromkeys(_refs((args, tuple(keywords.values())))))
        scope = tuple(f"{path}:{call}" if self.calls[path] > 1 else path for path, call in first.scope)
        shape: tuple[Any, ...] = ()
        if first.tensor is not None and second.tensor is not None:
            sides = zip(first.tensor.shape, second.tensor.shape, strict=True)
            shape = tuple(self._leaf(x, y, first) for x, y in sides)
        dtype = None if first.tensor is None else first.tensor.dtype
        self.steps.append(Step(name, op, args, keywords, inputs, scope, shape, dtype))
        self.names[a, b] = name
        return name

    def _name(self, op: Any) -> str:
        if op is operator.getitem:
            base = "getitem"
        elif isinstance(op, torch._ops.OpOverload):
            base = op._schema.name.partition("::")[2]
        else:
            base = op.__name__
        name = base
        while name in self.calls or name in self.used:
            self.used[base] += 1
            name = f"{base}_{self.used[base]}"
        self.used[name] += 0
        return name

    def _leaf(self, x: Any, y: Any, event: Event | None = None) -> Any:
        """What stands for the argument ``x`` of the first run and ``y`` of the second."""
        if isinstance(x, (list, tuple)) and not isinstance(x, torch.Size):
            if not isinstance(y, (list, tuple)) or len(x) != len(y):
                raise UnrecordableError("it does other things for another number of images", _place(event))
            return [self._leaf(part, other, event) for part, other in zip(x, y, strict=True)]
        if isinstance(x, (Value, Tensor)):
            return self._tensor(x, y, event)
        if isinstance(x, int) and isinstance(y, int) and not isinstance(x, bool) and x != y:
            n, m = self.batches
            scale, rest = divmod(y - x, m - n)
            offset = x - scale * n
            if rest or abs(offset) >= n:
                raise UnrecordableError(f"a size depends on the number of images ({x} for {n})", _place(event))
            return Sized(scale, offset)
        if x != y and not (x != x and y != y):
            raise UnrecordableError(f"{x!r} depends on the number of images", _place(event))
        return x

    def _tensor(self, x: Value | Tensor, y: Any, event: Event | None) -> Any:
        if not isinstance(y, (Value, Tensor)):
            raise UnrecordableError("it does other things for another number of images", _place(event))
        sources = [
            run.events[value.event] if isinstance(value, Value) else None
            for run, value in ((self.first, x), (self.second, y))
        ]
        moving = [source is not None and source.moving for source in sources]
        if any(moving):
            if not all(moving):
                raise UnrecordableError("it does other things for another number of images", _place(event))
            return Ref(self._step(x.event, y.event))  # type: ignore[union-attr]
        pair = [
            value if isinstance(value, Tensor) else run.events[value.event].tensor
            for run, value in ((self.first, x), (self.second, y))
        ]
        if pair[0] is not None and pair[1] is not None and _same(pair[0], pair[1]):
            return pair[0]
        if not isinstance(x, Value) or not isinstance(y, Value):
            raise UnrecordableError("a constant depends on the number of images", _place(event))
        return Ref(self._step(x.event, y.event))


def _refs(tree: Any) -> list[str]:
    if isinstance(tree, Ref):
        return [tree.name]
    return [name for part in tree for name in _refs(part)] if isinstance(tree, (list, tuple)) else []


def _same(x: Tensor, y: Tensor) -> bool:
    if x is y:
        return True
    if x.shape != y.shape or x.dtype != y.dtype or x.device != y.device or x.layout != y.layout:
        return False
    return torch.equal(x, y) or bool(((x == y) | ((x != x) & (y != y))).all())


def _place(event: Event | None) -> str:
    return event.scope[-1][0] if event is not None and event.scope else ""

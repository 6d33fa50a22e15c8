"""A recorded network: the operations that reached ATen while the model ran once, each as a functional step.

What made the model call them (Python's control flow, optional arguments, hooks, wrappers) is gone: what is left is what
happened, for images of one size. Making one: :func:`zfkernels.network.record`.
"""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from zfkernels.network.tree import leaves, map_leaves

INPUT = "input"


@dataclass(frozen=True, slots=True)
class Ref:
    """Stands for the value of the step called ``name``."""

    name: str
    is_leaf = True


@dataclass(frozen=True, slots=True)
class Sized:
    """An int that depends on the number N of images in the batch: ``scale * N + offset``."""

    scale: int
    offset: int
    is_leaf = True

    def at(self, batch: int) -> int:
        """The int for a batch of so many images."""
        return self.scale * batch + self.offset


@dataclass(frozen=True, slots=True)
class Opaque:
    """Stands for a part of the output that is neither a tensor nor made of any: an object of a class of its own."""

    kind: str
    is_leaf = True


@dataclass(frozen=True)
class Step:
    """One operation. It changes none of its arguments.

    Attributes:
        name: unique: "input"; else the operation's name and a count: "conv2d", "conv2d_1", "add_3"; "getitem" for one
            of several results.
        op: what it calls; None for the input. An overload of ATen, ``operator.getitem``, or a function of
            ``torch.nn.functional`` where a module is kept whole (local response normalisation).
        args: positional arguments: :class:`Ref` for what depends on the images, :class:`Sized` for ints that depend on
            their number, real tensors for parameters and constants.
        kwargs: keyword arguments, likewise.
        inputs: names of the steps that it reads, each once, in order of appearance.
        scope: the modules that it happened in, outermost first, by path: "features", "features.3"; of a module that is
            called several times "features.3:k" for the k-th call, from 0.
        shape: of its value; () for several values.
        dtype: of its value; None for several values.
    """

    name: str
    op: Callable[..., Any] | None
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    inputs: tuple[str, ...]
    scope: tuple[str, ...]
    shape: tuple[int | Sized, ...]
    dtype: torch.dtype | None

    def run(self, values: Mapping[str, Any], batch: int) -> Any:
        """Its value.

        Args:
            values: of the steps that it reads, by name.
            batch: number of images.
        """
        assert self.op is not None, self.name
        keywords = {key: _filled(value, values, batch) for key, value in self.kwargs.items()}
        return self.op(*(_filled(value, values, batch) for value in self.args), **keywords)

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        if isinstance(self.op, torch._ops.OpOverload):
            state["op"] = (self.op.namespace, self.op._opname, self.op._overloadname)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        if isinstance(state["op"], tuple):
            namespace, name, overload = state["op"]
            state["op"] = getattr(getattr(getattr(torch.ops, namespace), name), overload)
        self.__dict__.update(state)


@dataclass(frozen=True)
class Recording:
    """A network as a sequence of steps. The model itself is left untouched; parameters are shared with it.

    Attributes:
        model: what was recorded.
        steps: in the order in which they ran; the first is the input.
        outputs: of the form of the model's own output, with :class:`Ref` for each tensor that depends on the images or
            on their number.
        layers: what each module returned, by path and, of modules that are called several times, also by "path:k";
            of the module's own form, with :class:`Ref` in the same way. A path alone means its last call.
        size: (H, W) of the images that it was recorded for.
        channels: of these images.
        memo: what others have found out about these steps; all recordings of the same run share it.
    """

    model: nn.Module
    steps: tuple[Step, ...]
    outputs: Any
    layers: dict[str, Any]
    size: tuple[int, int]
    channels: int
    memo: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**{field.name: getattr(self, field.name) for field in fields(self)}, "memo": {}}

    @cached_property
    def by_name(self) -> dict[str, Step]:
        """The steps by their names."""
        return {step.name: step for step in self.steps}

    @cached_property
    def users(self) -> dict[str, tuple[str, ...]]:
        """Names of the steps that read each step."""
        return readers_of(self.steps)

    @cached_property
    def output_names(self) -> tuple[str, ...]:
        """Names of the steps that the model's output is made of, each once."""
        return tuple(dict.fromkeys(leaf.name for leaf in leaves(self.outputs) if isinstance(leaf, Ref)))

    @cached_property
    def labels(self) -> dict[str, str]:
        """What a person calls a step: the path of the innermost module that returned it."""
        returned = [
            (value.name, path)
            for path, value in self.layers.items()
            if path and f"{path}:0" not in self.layers and isinstance(value, Ref)
        ]
        return dict(reversed(returned))

    def resolve(self, layer: str) -> str:
        """The name of the step that ``layer`` means.

        Args:
            layer: a module's path: what it returned, of several calls in the last; "path:k": in the k-th call, from 0;
                "path[i]": the i-th of several tensors; or a step's name.

        Raises:
            TypeError: no name.
            ValueError: no such layer (the message lists near matches), or a layer that is not one tensor.
        """
        if not isinstance(layer, str):
            raise TypeError(f"network: expected layer a name, got {layer!r}")
        path, bracket, index = layer.partition("[")
        if path in self.layers:
            tensors = [leaf for leaf in leaves(self.layers[path]) if isinstance(leaf, (Ref, Tensor))]
            names = [leaf.name if isinstance(leaf, Ref) else "" for leaf in tensors]
            if not bracket and len(tensors) != 1:
                choices = [f"{path}[{i}]" for i in range(min(len(tensors), 4))]
                raise ValueError(
                    f"network: expected layer one tensor, got {layer!r} of {len(tensors)}"
                    + (f"; name one of {choices}" if choices else "")
                )
            chosen = index.removesuffix("]") if bracket else "0"
            if chosen.isdecimal() and int(chosen) < len(names):
                if not names[int(chosen)]:
                    raise ValueError(f"network: expected layer that depends on the images, got {layer!r}")
                return names[int(chosen)]
        if layer in self.by_name:
            return layer
        raise ValueError(
            f"network: expected layer one of the network's layers, got {layer!r}; {self._suggestions(path)}"
        )

    def _suggestions(self, path: str) -> str:
        """What may have been meant: modules and blocks, and how the calls are named of one that is called often."""
        known = [name for name, value in self.layers.items() if name and any(isinstance(x, Ref) for x in leaves(value))]
        module, _, call = path.rpartition(":")
        if call.isdecimal() and module in self.layers:
            count = self._calls(module)
            called = f"{count} times: name {module}:0 to {module}:{count - 1}" if count > 1 else f"once: name {module}"
            return f"{module} is called {called}"
        alone = [name for name in known if ":" not in name]
        inside = [name for name in alone if path and name.startswith(f"{path}.")]
        near = (
            difflib.get_close_matches(path, alone, n=4, cutoff=0.4)
            or inside[:4]
            or sorted(alone, key=lambda name: name.count("."))[:6]
        )
        return f"near matches: {[self._with_calls(name) for name in near]}"

    def _calls(self, module: str) -> int:
        """How often a module is called; 0 where its calls are not numbered, as it is called once."""
        return next(k for k in itertools.count() if f"{module}:{k}" not in self.layers)

    def _with_calls(self, module: str) -> str:
        count = self._calls(module)
        return f"{module} (the last of {count} calls, {module}:0 the first)" if count > 1 else module

    @torch.no_grad()
    def run(
        self, images: Tensor, keep: Iterable[str], *, hook: Callable[[Step, tuple[Any, ...]], Any] | None = None
    ) -> dict[str, Any]:
        """Runs the network forwards once and returns the values of the steps named in ``keep``.

        Args:
            images: [N, C, H, W].
            keep: names of steps (not of layers). Steps that none of them needs are not run, other values are freed.
            hook: called for each step with its inputs' values; a result other than None replaces the step's own.
        """
        wanted = set(keep)
        steps = self.needed_for(wanted)
        last = {name: index for index, step in enumerate(steps) for name in (step.name, *step.inputs)}
        values: dict[str, Any] = {}
        for index, step in enumerate(steps):
            result = None
            if step.name == INPUT:
                result = images
            elif hook is not None:
                result = hook(step, tuple(values[name] for name in step.inputs))
            values[step.name] = step.run(values, len(images)) if result is None else result
            for name in step.inputs:
                if last[name] <= index and name not in wanted:
                    values.pop(name, None)
        return values

    def needed_for(self, names: Collection[str]) -> tuple[Step, ...]:
        """The steps that the steps called ``names`` depend on, themselves included, in order."""
        needed = set(names)
        for step in reversed(self.steps):
            if step.name in needed:
                needed.update(step.inputs)
        return tuple(step for step in self.steps if step.name in needed)

    def rebuild(self, values: Mapping[str, Any]) -> Any:
        """The model's output from the values of the steps named in :attr:`output_names`, in the model's own form.

        Raises:
            TypeError: the output holds an object that is neither a tensor nor made of any.
        """

        def filled(leaf: Any) -> Any:
            if isinstance(leaf, Opaque):
                raise TypeError(f"network: expected model whose output is made of tensors, got {leaf.kind} in it")
            return values[leaf.name] if isinstance(leaf, Ref) else leaf

        return map_leaves(filled, self.outputs)


def _filled(value: Any, values: Mapping[str, Any], batch: int) -> Any:
    if isinstance(value, Ref):
        return values[value.name]
    if isinstance(value, Sized):
        return value.at(batch)
    if isinstance(value, (list, tuple)):
        return [_filled(part, values, batch) for part in value]
    return value


def readers_of(steps: Sequence[Any]) -> dict[str, tuple[str, ...]]:
    """For each of ``steps``, which have a ``name`` and ``inputs``, the names of those that read it."""
    readers: dict[str, list[str]] = {step.name: [] for step in steps}
    for step in steps:
        for name in step.inputs:
            readers[name].append(step.name)
    return {name: tuple(found) for name, found in readers.items()}

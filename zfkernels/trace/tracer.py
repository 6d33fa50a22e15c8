"""torch.fx graph → :class:`Trace`: the steps of a network in the order in which they run."""

from __future__ import annotations

import difflib
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from zfkernels.trace.inplace import make_functional
from zfkernels.trace.refusals import refuse_lots, refuse_training, why_untraceable
from zfkernels.trace.steps import (
    ARITHMETIC,
    FRAME_KINDS,
    MAP_KINDS,
    PLANAR_MODULES,
    SLIDING_KINDS,
    Role,
    Step,
    arithmetic,
    classify_function,
    classify_module,
    is_layer_norm2d,
    layout_after,
)
from zfkernels.windows import Pair


class UntraceableError(ValueError):
    """A network that torch.fx cannot trace; the message names the module and the reason."""


@dataclass(frozen=True)
class LayerInfo:
    """A row of the table of layers.

    Attributes:
        name: the layer's name, as ``layer=`` takes it.
        kind: kind of step, see :mod:`zfkernels.trace.steps`.
        channels: number of maps (or units of a layer without maps).
        size: (rows, columns) of a map; None for a layer without maps.
        stride: (rows, columns): pixels from one cell to the next; None without maps or where branches disagree.
        receptive_field: (rows, columns) in pixels that one inner cell depends on; None for the whole image.
    """

    name: str
    kind: str
    channels: int
    size: Pair | None
    stride: Pair | None
    receptive_field: Pair | None


@dataclass(frozen=True)
class Trace:
    """A network as a sequence of steps; the module itself is left untouched.

    Attributes:
        model: the traced module.
        steps: in the order in which they run; the first is the input.
        output: name of the step that is the network's output.
    """

    model: nn.Module
    steps: tuple[Step, ...]
    output: str

    @cached_property
    def by_name(self) -> dict[str, Step]:
        """The steps by their unique names."""
        return {step.name: step for step in self.steps}

    @cached_property
    def users(self) -> dict[str, tuple[str, ...]]:
        """Names of the steps that read each step."""
        users: dict[str, list[str]] = {step.name: [] for step in self.steps}
        for step in self.steps:
            for name in step.inputs:
                users[name].append(step.name)
        return {name: tuple(readers) for name, readers in users.items()}

    @property
    def input(self) -> Step:
        return self.steps[0]

    def resolve(self, layer: str) -> str:
        """The name of the step that ``layer`` means.

        Args:
            layer: a step's name; or a module's path: its output (of a container: the last step inside it; of a module
                used several times: its last call, or ``"path:k"``, the k-th, from 0).

        Raises:
            ValueError: no such layer; the message lists near matches.
        """
        if not isinstance(layer, str):
            raise TypeError(f"trace: expected layer a name, got {layer!r}")
        path, _, call = layer.partition(":")
        if call in ("", *map(str, range(1000))):
            calls = {f"{path}@{call}" if call not in ("", "0") else path}
            if not call:
                calls |= {scope for step in self.steps for scope in step.scope if scope.split("@")[0] == path}
            inside = [step.name for step in self.steps if calls & set(step.scope)]
            if inside:
                return inside[-1]
        if layer in self.by_name:
            return layer
        names = list(dict.fromkeys(step.label for step in self.steps if step.layout or step.kind == "linear"))
        near = difflib.get_close_matches(layer, names, n=4, cutoff=0.4) or names[:6]
        raise ValueError(f"trace: expected layer one of the network's layers, got {layer!r}; near matches: {near}")

    @torch.no_grad()
    def run(
        self, images: Tensor, keep: Iterable[str], *, hook: Callable[[Step, tuple[Tensor, ...]], Any] | None = None
    ) -> dict[str, Any]:
        """Runs the network forwards once and returns the values of the steps named in ``keep``.

        Args:
            images: [N, C, H, W].
            keep: names of steps (not labels). Steps that none of them needs are not run, other values are freed.
            hook: called for each step with its inputs' values; a result other than None replaces the step's own.
        """
        wanted = set(keep)
        steps = self.needed_for(wanted)
        last = {name: index for index, step in enumerate(steps) for name in (step.name, *step.inputs)}
        values: dict[str, Any] = {}
        for index, step in enumerate(steps):
            inputs = tuple(values[name] for name in step.inputs)
            result = hook(step, inputs) if hook is not None and step.kind != "input" else None
            if result is None:
                result = images if step.kind == "input" else step.call(*inputs)
            values[step.name] = result
            for name in step.inputs:
                if last[name] <= index and name not in wanted:
                    values.pop(name, None)
        return values

    def needed_for(self, wanted: Collection[str]) -> tuple[Step, ...]:
        """The steps that the steps named in ``wanted`` depend on, themselves included, in order."""
        needed = set(wanted)
        for step in reversed(self.steps):
            if step.name in needed:
                needed.update(step.inputs)
        return tuple(step for step in self.steps if step.name in needed)

    def activations(self, images: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        """One forward pass; the values [N, C, h, w] (or [N, units]) of ``layers``, under the names given."""
        names = {layer: self.resolve(layer) for layer in layers}
        values = self.run(images, names.values())
        return {layer: values[name] for layer, name in names.items()}

    @property
    def channels(self) -> int:
        """How many channels the images have, as far as the first convolution tells, else 3."""
        first = next((step for step in self.steps if step.kind == "conv"), None)
        return first.params.weight.shape[1] * first.params.groups if first else 3

    def shapes(self, input_size: Pair, channels: int | None = None, batch: int = 1) -> dict[str, tuple[int, ...]]:
        """Shapes of all tensor-valued steps for images of ``input_size``, without computing them.

        Raises:
            ValueError: images of a size that the network does not take.
        """
        channels = self.channels if channels is None else channels
        parameter = next(self.model.parameters(), torch.empty(0))
        with FakeTensorMode(allow_non_fake_inputs=True):
            images = torch.empty((batch, channels, *input_size), dtype=parameter.dtype, device=parameter.device)
            try:
                values = self.run(images, [step.name for step in self.steps])
            except RuntimeError as error:
                reason = str(error).splitlines()[0]
                raise ValueError(
                    f"trace: expected a size that the network takes, got {input_size}: {reason}"
                ) from error
        return {name: tuple(value.shape) for name, value in values.items() if isinstance(value, Tensor)}

    def layer_info(self, input_size: Pair | None = None, channels: int | None = None) -> list[LayerInfo]:
        """The table of layers for images of ``input_size`` (default: ``model.input_size``, else 224)."""
        known: Any = input_size or getattr(self.model, "input_size", 224)
        size = (known, known) if isinstance(known, int) else (known[0], known[1])
        shapes = self.shapes(size, channels)
        fields = self._receptive_fields()
        table = []
        for step in self.steps:
            shape = shapes.get(step.name)
            if shape is None or step.kind == "input":
                continue
            maps = step.layout == "NCHW" and len(shape) == 4
            field = fields[step.name] if maps else None
            table.append(
                LayerInfo(
                    step.label,
                    step.kind,
                    shape[3 if step.layout == "NHWC" and len(shape) == 4 else 1] if len(shape) > 1 else 1,
                    (shape[2], shape[3]) if maps else None,
                    field[0] if field else None,
                    (min(field[1][0], size[0]), min(field[1][1], size[1])) if field else None,
                )
            )
        return table

    def _receptive_fields(self) -> dict[str, tuple[Pair, Pair] | None]:
        """(stride, extent) in pixels of one inner cell of each step; None where it is the whole image."""
        known: dict[str, tuple[tuple[int, int, int], ...] | None] = {}  # per axis: stride, first pixel, last pixel + 1
        for step in self.steps:
            sources = [known[name] for name in step.inputs]
            if step.kind == "input":
                known[step.name] = ((1, 0, 1), (1, 0, 1))
            elif (
                None in sources
                or not sources
                or not step.layout
                or step.kind in FRAME_KINDS
                or len({tuple(axis[0] for axis in source) for source in sources if source}) > 1
            ):
                known[step.name] = None
            else:
                axes = []
                for axis in (0, 1):
                    parts = [source[axis] for source in sources if source]
                    stride, first, last = parts[0][0], min(p[1] for p in parts), max(p[2] for p in parts)
                    if step.kind in SLIDING_KINDS:
                        s = step.sliding
                        first -= s.padding[axis] * stride
                        last += (s.extent[axis] - 1 - s.padding[axis]) * stride
                        stride *= s.stride[axis]
                    axes.append((stride, first, last))
                known[step.name] = tuple(axes)
        return {
            name: ((rf[0][0], rf[1][0]), (rf[0][2] - rf[0][1], rf[1][2] - rf[1][1])) if rf else None
            for name, rf in known.items()
        }


class _Tracer(fx.Tracer):
    """Keeps torchvision's channel-wise layer norm and channel shuffle whole: both are functions of one cell."""

    def __init__(self) -> None:
        shuffle = getattr(sys.modules.get("torchvision.models.shufflenetv2"), "channel_shuffle", None)
        super().__init__(autowrap_functions=(shuffle,) if shuffle else ())

    def is_leaf_module(self, module: nn.Module, qualified_name: str) -> bool:
        return is_layer_norm2d(module) or super().is_leaf_module(module, qualified_name)


def trace_model(model: nn.Module) -> Trace:
    """Traces an nn.Module in eval mode.

    Functional and in-place rectifiers, modules used several times, additions and concatenations are all seen. The
    model is left untouched: no hooks, no changed flags.

    Args:
        model: any module that torch.fx can trace, of one input, images [N, C, H, W].

    Returns:
        The :class:`Trace`.

    Raises:
        TypeError: not an nn.Module.
        UntraceableError: the module cannot be traced, or carries forward hooks; the message names it and the reason.
        ValueError: dropout, stochastic depth or batch normalisation in training mode, batch normalisation without
            running statistics.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"trace_model: expected model an nn.Module, got {type(model).__name__}")
    refuse_training(model)
    if reason := why_untraceable(model):
        raise UntraceableError(f"trace_model: cannot trace {type(model).__name__}: {reason}")
    tracer = _Tracer()
    try:
        graph = tracer.trace(model)
    except Exception as error:  # torch.fx raises whatever the model's code raises on a proxy
        where = next((name for name, _ in reversed(tracer.module_stack.values())), "") if tracer.module_stack else ""
        name = f"{type(model).__name__}{'.' + where if where else ''}"
        raise UntraceableError(f"trace_model: torch.fx cannot trace {name}: {str(error).splitlines()[0]}") from error
    refuse_lots(type(model).__name__, graph)
    return _build(model, graph)


def _build(model: nn.Module, graph: fx.Graph) -> Trace:
    placeholders = [node for node in graph.nodes if node.op == "placeholder"]
    required = [node for node in placeholders if not node.args]
    if len(placeholders) < 1 or len(required) > 1:
        raise UntraceableError(
            f"trace_model: expected a model of one input, got {len(required)} in {type(model).__name__}"
        )
    modules = dict(model.named_modules(remove_duplicate=False))
    make_functional(graph, modules)
    calls = Counter(node.target for node in graph.nodes if node.op == "call_module")
    steps: dict[str, Step] = {}
    constants: dict[str, Any] = {}  # values of nodes that do not depend on the images
    output = ""
    for node in graph.nodes:
        if node.op == "output":
            if not isinstance(node.args[0], fx.Node) or node.args[0].name not in steps:
                raise UntraceableError(f"trace_model: expected one tensor as output, got {node.args[0]!r}")
            output = node.args[0].name
        elif node is placeholders[0]:
            steps[node.name] = Step(node.name, node.name, "input", (), None, lambda: None, (), "NCHW")
        elif node.op == "placeholder":
            constants[node.name] = node.args[0]
        elif node.op == "get_attr":
            constants[node.name] = _attribute(model, str(node.target))
        elif all(source.name in constants for source in node.all_input_nodes):
            constants[node.name] = _caller(node, modules, [], constants)()
        else:
            label = _label(node, calls)
            steps[node.name] = _step(node, label, modules, steps, constants)
    return Trace(model, tuple(sorted(steps.values(), key=lambda step: step.kind != "input")), output)


def _label(node: fx.Node, calls: Mapping[Any, int]) -> str:
    """What a person calls a node: its module's path, with ":k" for the k-th of several calls."""
    if node.op != "call_module":
        return node.name
    _, _, call = next(reversed(node.meta["nn_module_stack"])).partition("@")
    return f"{node.target}:{call or 0}" if calls[node.target] > 1 else str(node.target)


def _step(
    node: fx.Node, label: str, modules: dict[str, nn.Module], steps: dict[str, Step], constants: dict[str, Any]
) -> Step:
    scope = tuple(node.meta.get("nn_module_stack", {}))
    first = next(source.name for source in node.all_input_nodes if source.name in steps)
    role = Role("other")
    if node.op != "call_module":
        role = classify_function(node, steps[first].layout)
    elif len(node.args) == 1 and not node.kwargs:
        module = modules[str(node.target)]
        if isinstance(module, PLANAR_MODULES) and not steps[first].layout:
            steps[first] = replace(steps[first], layout="NCHW")
        role = classify_module(module, steps[first].layout)
    sources = [source.name for source in role.inputs or node.all_input_nodes]
    moving = tuple(name for name in sources if name in steps)
    layouts = [steps[name].layout for name in moving]
    layout = next(filter(None, layouts), "")
    kind, maps, call = role.kind, role.maps, role.call
    if kind in ARITHMETIC.values():
        kind, maps = arithmetic(kind, node, layouts, constants), len({*layouts} - {""}) == 1
    elif len(moving) < len(sources):  # other steps that read constants
        kind, call = "other", None
    elif (kind == "cat" and len(set(layouts)) > 1) or (kind in MAP_KINDS and layout != "NCHW"):
        kind = "other"
    call = call or _caller(node, modules, moving, constants)
    return Step(node.name, label, kind, moving, role.params, call, scope, layout_after(node, layout, kind, maps))


def _caller(
    node: fx.Node, modules: dict[str, nn.Module], moving: Sequence[str], constants: dict[str, Any]
) -> Callable[..., Any]:
    """Runs the node on the values of its inputs ``moving``, in that order."""
    target: Any = modules[str(node.target)] if node.op == "call_module" else node.target
    fixed = {source.name: constants[source.name] for source in node.all_input_nodes if source.name in constants}

    def call(*values: Any) -> Any:
        by_name = {**fixed, **dict(zip(moving, values, strict=True))}
        args = fx.map_arg(node.args, lambda n: by_name[n.name])
        keywords = fx.map_arg(node.kwargs, lambda n: by_name[n.name])
        return getattr(args[0], target)(*args[1:], **keywords) if isinstance(target, str) else target(*args, **keywords)

    return call


def _attribute(model: nn.Module, path: str) -> Any:
    value: Any = model
    for part in path.split("."):
        value = getattr(value, part)
    return value.detach() if isinstance(value, Tensor) else value

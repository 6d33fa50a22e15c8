"""A network as the methods see it: recorded for images of one size, each operation of a known kind."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from zfkernels.network import Recording, Sized, first_channels, record
from zfkernels.network.recording import readers_of
from zfkernels.trace.build import build
from zfkernels.trace.steps import FRAME_KINDS, SLIDING_KINDS, Step
from zfkernels.windows import Pair

DEFAULT_SIZE = 224


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
    """A network as a sequence of steps, for images of one size; the module itself is left untouched.

    Attributes:
        recording: what ran.
        steps: in the order in which they run; the first is the input.
        output: name of the step that is the network's output; of an output of several tensors, their tuple.
    """

    recording: Recording
    steps: tuple[Step, ...]
    output: str

    @property
    def model(self) -> nn.Module:
        return self.recording.model

    @property
    def size(self) -> Pair:
        """(H, W) of the images that it was recorded for."""
        return self.recording.size

    @property
    def channels(self) -> int:
        """How many channels these images have."""
        return self.recording.channels

    @cached_property
    def by_name(self) -> dict[str, Step]:
        """The steps by their unique names."""
        return {step.name: step for step in self.steps}

    @cached_property
    def users(self) -> dict[str, tuple[str, ...]]:
        """Names of the steps that read each step."""
        return readers_of(self.steps)

    @property
    def input(self) -> Step:
        return self.steps[0]

    def at(self, size: Pair, channels: int | None = None) -> Trace:
        """The same network for images of another size."""
        channels = self.channels if channels is None else channels
        if (size, channels) == (self.size, self.channels):
            return self
        return trace_model(self.model, (channels, *size))

    def resolve(self, layer: str) -> str:
        """The name of the step that ``layer`` means.

        Args:
            layer: a module's path: its value when it returned (of a module used several times: its last call, or
                ``"path:k"``, the k-th, from 0; of several tensors ``"path[i]"``); or a step's name.

        Raises:
            ValueError: no such layer; the message lists near matches.
        """
        name = self.recording.resolve(layer)
        if name not in self.by_name:
            raise ValueError(f"trace: expected layer that is one tensor of the network, got {layer!r}")
        return name

    @torch.no_grad()
    def run(
        self, images: Tensor, keep: Iterable[str], *, hook: Callable[[Step, tuple[Any, ...]], Any] | None = None
    ) -> dict[str, Any]:
        """Runs the network forwards once and returns the values of the steps named in ``keep``.

        Args:
            images: [N, C, H, W]; of another size than the trace's: the steps of the same names run.
            keep: names of steps (not labels). Steps that none of them needs are not run, other values are freed.
            hook: called for each step with its inputs' values; a result other than None replaces the step's own.
        """
        size = (images.shape[2], images.shape[3])
        if size != self.size:
            return self.at(size, images.shape[1]).run(images, keep, hook=hook)
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

    def shapes(self, input_size: Pair, channels: int | None = None, batch: int = 1) -> dict[str, tuple[int, ...]]:
        """Shapes of all tensor-valued steps for images of ``input_size``, without computing them.

        Raises:
            ValueError: images of a size that the network does not take.
        """
        trace = self.at(input_size, channels)
        known = trace.recording.by_name
        return {
            step.name: tuple(side.at(batch) if isinstance(side, Sized) else side for side in known[step.name].shape)
            for step in trace.steps
            if step.name in known and known[step.name].dtype is not None
        }

    def layer_info(self, input_size: Pair | None = None, channels: int | None = None) -> list[LayerInfo]:
        """The table of layers for images of ``input_size`` (default: the size that was recorded)."""
        trace = self if input_size is None else self.at(input_size, channels)
        shapes, size = trace.shapes(trace.size), trace.size
        fields = trace._receptive_fields()
        table = []
        for step in trace.steps:
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


def trace_model(model: nn.Module, images: Tensor | tuple[int, ...] | None = None) -> Trace:
    """The network that ``model`` is for images of one size: recorded while it runs once, as it is.

    The model is left untouched; :func:`zfkernels.network.record` says what is recorded.

    Args:
        model: any nn.Module in eval mode that can be called with one batch of images.
        images: [N, C, H, W], (C, H, W), or (H, W): what it is recorded for. None: ``model.input_size``, else 224. As
            many channels as its first convolution takes where none are given.

    Returns:
        The :class:`Trace`.

    Raises:
        TypeError: not an nn.Module.
        UnrecordableError: what the model does depends on values, not on sizes alone, or it fails on such images.
        ValueError: dropout, stochastic depth or batch normalisation in training mode, batch normalisation without
            running statistics.
    """
    if images is None:
        images = _default_size(model)
    if isinstance(images, tuple) and len(images) == 2:
        images = (first_channels(model), *images)
    recording = record(model, images)
    if "trace" not in recording.memo:
        recording.memo["trace"] = build(recording)
    steps, output = recording.memo["trace"]
    return Trace(recording, steps, output)


def _default_size(model: Any) -> Pair:
    known: Any = getattr(model, "input_size", DEFAULT_SIZE)
    return (known, known) if isinstance(known, int) else (known[-2], known[-1])

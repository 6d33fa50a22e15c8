"""The way down of a DeconvNet: a batch of signals, from their layer to the pixels.

Each step passes its signal to the steps that it reads (rules: :mod:`zfkernels.methods.pullback`); where branches meet,
signals add up. Convolution, rectifier and pooling go through one fused op.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from zfkernels.methods import pullback
from zfkernels.methods.reach import Placement
from zfkernels.network import Sized
from zfkernels.ops import unpool_relu_conv_transpose2d
from zfkernels.trace import Step, Trace
from zfkernels.trace.steps import LOCAL_KINDS
from zfkernels.windows import Windows, crop, per_axis

Signal = Windows | Tensor  # windows at steps with maps, [P, ...] at others


@dataclass(frozen=True)
class Clean:
    """What one forward pass leaves for the ways down, by the steps' names.

    Attributes:
        shapes: of the steps that are tensors.
        switches: of the max-poolings.
        values: of the steps that derivatives are taken at.
    """

    shapes: dict[str, tuple[int, ...]]
    switches: dict[str, Tensor]
    values: dict[str, Any]


@dataclass(frozen=True)
class Stage:
    """A convolution with what follows it, undone in one op: unpool → rectify → (scale →) filter."""

    conv: Step
    weight: Tensor
    rectify: bool
    pool: Step | None


class Descent:
    """Takes signals down from ``target``; ``placements`` says where the windows of each step lie, ``rules`` how."""

    def __init__(
        self,
        trace: Trace,
        target: Step,
        clean: Clean,
        placements: Mapping[str, Placement],
        rules: pullback.Rules,
        overlap: str,
        backend: str | None,
    ) -> None:
        self.trace, self.target, self.clean, self.placements = trace, target, clean, placements
        self.rules, self.overlap, self.backend = rules, overlap, backend
        self.stages = {step.name: stage for step, stage in _stages(trace, clean, rules)}

    def project(self, units: Tensor, value: Tensor) -> Windows:
        """Sends ``value`` [P] at ``units`` [P, 4] (image, channel, row, column) down to the pixels."""
        return self.run(units[:, 0], self._inject(units, value))

    def run(self, image: Tensor, signal: Tensor) -> Windows:
        """Sends signals down: at a layer with maps windows [P, C, h, w] where its placement says, else [P, ...]."""
        self.image = image
        has_maps = self.target.name in self.placements
        self.signals: dict[str, Signal] = {
            self.target.name: self._windows(self.target.name, signal) if has_maps else signal
        }
        for step in reversed(self.trace.steps):
            if step.kind != "input" and step.name in self.signals:
                for name, below in self._below(step, self.signals.pop(step.name)):
                    self._add(name, below)
        pixels = self.signals.get(self.trace.input.name)
        if not isinstance(pixels, Windows):
            raise ValueError(f"DeconvNet: expected a layer that depends on the images, got {self.target.label!r}")
        return pixels

    def _inject(self, units: Tensor, value: Tensor) -> Tensor:
        shape = self.clean.shapes[self.target.name]
        rows = torch.arange(len(units), device=value.device)
        if self.target.name in self.placements:
            channels = shape[1] if self.target.layout == "NCHW" else shape[3]
            values = value.new_zeros((len(units), channels, 1, 1))
            values[rows, units[:, 1], 0, 0] = value
            return values
        signal = value.new_zeros((len(units), *shape[1:]))
        signal.view(len(units), -1)[rows, units[:, 1]] = value
        return signal

    def _windows(self, name: str, values: Tensor) -> Windows:
        place = self.placements[name]
        return Windows(values, place.origins, self.image, place.frame)

    def _whole(self, name: str, values: Tensor) -> Windows:
        """Windows that are the whole frame of a step."""
        place = self.placements[name]
        return Windows(values, torch.zeros_like(place.origins), self.image, place.frame)

    def _add(self, name: str, signal: Signal) -> None:
        """Adds a signal to what already waits at a step; windows of other sizes are moved to the step's own."""
        waiting = self.signals.get(name)
        if isinstance(signal, Tensor):
            signal = signal.sum_to_size(len(signal), *self.clean.shapes[name][1:])
            self.signals[name] = signal + waiting if isinstance(waiting, Tensor) else signal
            return
        place, signal = self.placements[name], self._of_one_copy(name, signal)
        values = signal.values
        if signal.origins is not place.origins or signal.size != place.size:
            values = crop(None, place.origins, self.image, place.size, windows=signal)
        if isinstance(waiting, Windows):
            values = values + waiting.values
        self.signals[name] = self._windows(name, values)

    def _of_one_copy(self, name: str, signal: Windows) -> Windows:
        """The sum over the cells and channels that a step was broadcast to, if it was."""
        frame, values, origins = self.placements[name].frame, signal.values, signal.origins
        channels = self.clean.shapes[name][1 if self.trace.by_name[name].layout == "NCHW" else 3]
        if values.shape[1] != channels:
            values = values.sum(1, keepdim=True)
        for axis in (0, 1):
            if frame[axis] != signal.frame[axis]:
                values = values.sum(2 + axis, keepdim=True)
                origins = origins.index_fill(1, torch.tensor(axis, device=origins.device), 0)
        return Windows(values, origins, self.image, frame)

    def _below(self, step: Step, signal: Signal) -> Iterator[tuple[str, Signal]]:
        """The signals at the inputs of a step."""
        if step.kind in ("global_pool", "adaptive_pool", "flatten"):
            yield step.inputs[0], self._frame(step, signal)
        elif isinstance(signal, Tensor) or step.kind == "other":
            dense = signal if isinstance(signal, Tensor) else pullback.as_layout(signal.paste(), step.layout)
            for name, below in self._vector(step, dense):
                yield name, self._as_signal(name, below)
        elif step.name in self.stages:
            stage = self.stages[step.name]
            yield stage.conv.inputs[0], self._stage(stage, signal)
        elif step.kind == "max_pool":
            yield step.inputs[0], self._unpool(step, signal)
        elif step.kind == "avg_pool":
            yield step.inputs[0], self._avg_pool(step, signal)
        elif step.kind == "add":
            yield from ((name, signal) for name in step.inputs)
        elif step.kind == "cat":
            sizes = [self.clean.shapes[name][1 if step.layout == "NCHW" else 3] for name in step.inputs]
            for name, part in zip(step.inputs, signal.values.split(sizes, 1), strict=True):
                yield name, Windows(part, signal.origins, self.image, signal.frame)
        elif step.kind == "mul":
            yield from self._mul(step, signal)
        else:
            assert step.kind in LOCAL_KINDS, step.kind
            yield step.inputs[0], pullback.local(step, signal, self.clean.values, self.rules)

    def _stage(self, stage: Stage, signal: Windows) -> Windows:
        conv = stage.conv.sliding
        place = self.placements[stage.conv.inputs[0]]
        unpooled = self.placements[stage.conv.name].frame
        out = unpool_relu_conv_transpose2d(
            signal, self.clean.switches[stage.pool.name] if stage.pool else None, stage.weight,
            stride=conv.stride, padding=conv.padding, dilation=conv.dilation, groups=stage.conv.params.groups,
            output_size=place.frame, out_size=place.size, out_origins=place.origins, rectify=stage.rectify,
            overlap=self.overlap, backend=self.backend, **_pooling(stage.pool, unpooled),
        )  # fmt: skip
        assert isinstance(out, Windows)
        return out

    def _unpool(self, step: Step, signal: Windows) -> Windows:
        """Unpooling alone: the fused op with filters of one tap that pass each map."""
        place = self.placements[step.inputs[0]]
        channels = signal.values.shape[1]
        out = unpool_relu_conv_transpose2d(
            signal, self.clean.switches[step.name], signal.values.new_ones((channels, 1, 1, 1)), groups=channels,
            rectify=False, output_size=place.frame, out_size=place.size, out_origins=place.origins,
            overlap=self.overlap, backend=self.backend, **_pooling(step, place.frame),
        )  # fmt: skip
        assert isinstance(out, Windows)
        return out

    def _avg_pool(self, step: Step, signal: Windows) -> Windows:
        name = step.inputs[0]
        place, sliding = self.placements[name], step.sliding
        share = pullback.divisor_map(step.params, place.frame, signal.frame, signal.values)
        values = signal.values * crop(share, signal.origins, torch.zeros_like(self.image), signal.size)
        ones = values.new_ones((values.shape[1], 1, *sliding.kernel))
        spread = F.conv_transpose2d(values, ones, None, sliding.stride, groups=values.shape[1])
        origins = signal.origins * per_axis(signal.origins, sliding.stride)
        origins = origins - per_axis(origins, sliding.padding)
        reach = Windows(spread, origins, self.image, place.frame)
        return self._windows(name, crop(None, place.origins, self.image, place.size, windows=reach))

    def _mul(self, step: Step, signal: Windows) -> Iterator[tuple[str, Signal]]:
        maps = [pullback.from_layout(self.clean.values[name], step.layout) for name in step.inputs]
        for name, other in zip(step.inputs, reversed(maps), strict=True):  # a gate has one cell for the whole frame
            factor = crop(other.expand(-1, -1, *signal.frame), signal.origins, self.image, signal.size)
            yield name, Windows(signal.values * factor, signal.origins, self.image, signal.frame)

    def _frame(self, step: Step, signal: Signal) -> Signal:
        """Below a step that reads the whole frame."""
        name = step.inputs[0]
        shape = self.clean.shapes[name]
        values = signal.paste() if isinstance(signal, Windows) else signal
        if step.kind == "flatten":
            return self._as_signal(name, values.reshape(len(values), *shape[1:]))
        if step.kind == "global_pool":
            values = (values.reshape(len(values), shape[1], 1, 1) / (shape[2] * shape[3])).expand(-1, -1, *shape[2:])
        else:
            like = self.clean.values[name].index_select(0, self.image)
            values = torch.ops.aten._adaptive_avg_pool2d_backward(values, like)
        return self._whole(name, values)

    def _vector(self, step: Step, signal: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Below a step without maps, or one that has no rule: the signals at the tensors that it reads."""
        below = pullback.vector(step, signal, self.rules)
        if below is not None:
            yield from ((name, below) for name in step.inputs)
            return
        names = list(dict.fromkeys(self._tensors_read(step)))
        clean = [self.clean.values[name].index_select(0, self.image) for name in names]
        if step.kind == "pointwise" and tuple(names) == step.inputs:
            yield names[0], pullback.through(step, signal, clean[0])
            return

        def call(*values: Tensor) -> Tensor:
            return self._evaluate(step, dict(zip(names, values, strict=True)))

        for name, gradient in zip(names, pullback.through_autograd(call, signal, clean), strict=True):
            if gradient is not None:
                yield name, gradient

    def _tensors_read(self, step: Step) -> Iterator[str]:
        """The tensors [N, ...] that a step reads, directly or through sizes, tuples and tensors of other forms."""
        count = self.clean.shapes[self.trace.input.name][0]
        recorded = self.trace.recording.by_name
        for name in step.inputs:
            source = self.trace.by_name[name]
            if recorded[name].shape[:1] == (Sized(1, 0),):
                yield name
            elif source.kind in ("relu", "lrn", "max_pool"):
                raise ValueError(
                    f"DeconvNet: expected layers whose first dimension is that of the images, {count}, got "
                    f"{source.label!r} of shape {self.clean.shapes[name]}"
                )
            else:
                yield from self._tensors_read(source)

    def _evaluate(self, step: Step, known: dict[str, Any]) -> Any:
        """A step's value from the ``known`` values of steps below it."""
        for name in step.inputs:
            if name not in known:
                known[name] = self._evaluate(self.trace.by_name[name], known)
        return step.call(*(known[name] for name in step.inputs))

    def _as_signal(self, name: str, values: Tensor) -> Signal:
        """A tensor [P, ...] at a step, as windows if the step has maps."""
        if name not in self.placements:
            return values
        return self._whole(name, pullback.from_layout(values, self.trace.by_name[name].layout))


def _pooling(pool: Step | None, unpooled: tuple[int, int]) -> dict[str, Any]:
    if pool is None:
        return {}
    s = pool.sliding
    return {
        "pool_kernel_size": s.kernel, "pool_stride": s.stride, "pool_padding": s.padding, "pool_dilation": s.dilation,
        "unpooled_size": unpooled,
    }  # fmt: skip


def _stages(trace: Trace, clean: Clean, rules: pullback.Rules) -> Iterator[tuple[Step, Stage]]:
    """Each convolution that ran, and the last step of the chain conv → (batch norm) → (ReLU) → (max-pool) above it."""
    for conv in trace.steps:
        if conv.kind != "conv" or conv.name not in clean.shapes:
            continue
        head, weight, rectify, pool = conv, conv.params.weight, False, None
        while pool is None:
            readers = [name for name in trace.users[head.name] if name in clean.shapes]
            reader = trace.by_name[readers[0]] if len(readers) == 1 else None
            if reader is None:
                break
            if reader.kind == "batch_norm" and not rectify:
                weight = weight * pullback.batch_norm_scale(reader.params)[:, None, None, None]
            elif reader.kind == "relu" and not rectify and not rules.by_derivative(reader):
                rectify = True
            elif reader.kind == "max_pool":
                pool = reader
            else:
                break
            head = reader
        yield head, Stage(conv, weight, rectify, pool)

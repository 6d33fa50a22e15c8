"""A model as the methods see it: recorded for images of one size, every step of a known kind, layers by their names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import Tensor, nn

from zfkernels.geometry import Pair
from zfkernels.network.kinds import Kind, registered_kinds
from zfkernels.network.program import Program
from zfkernels.network.record import first_channels, record
from zfkernels.network.recording import INPUT, Recording, Ref, Sized, Step, readers_of
from zfkernels.network.tree import leaves

DEFAULT_SIZE = 224
Field = tuple[tuple[int, int, int], tuple[int, int, int]]  # of each axis: stride, first pixel, last pixel + 1


@dataclass(frozen=True)
class LayerInfo:
    """A row of the table of layers.

    Attributes:
        name: the layer's name, as ``layer=`` takes it.
        step: the name of the recorded step.
        kind: what people call this kind of step.
        channels: number of maps (or units of a layer without maps).
        size: (rows, columns) of a map; None for a layer without maps.
        stride: (rows, columns): pixels from one cell to the next; None without maps or where branches disagree.
        receptive_field: (rows, columns) in pixels that one inner cell depends on; None for the whole image.
        is_rectifier: whether it is a rectifier of any kind.
        is_convolution: whether it is a convolution with fixed filters.
    """

    name: str
    step: str
    kind: str
    channels: int
    size: Pair | None
    stride: Pair | None
    receptive_field: Pair | None
    is_rectifier: bool
    is_convolution: bool


@dataclass(frozen=True)
class Network:
    """A model for images of one size; :func:`trace_model` makes one. The model itself is left untouched.

    Attributes:
        recording: what ran.
    """

    recording: Recording

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

    @property
    def kinds(self) -> Mapping[str, Kind]:
        """The steps that outputs and layers depend on, by their names, in the order in which they run."""
        memo, key = self.recording.memo, ("kinds", registered_kinds())
        if key not in memo:
            named = [leaf.name for leaf in leaves(self.recording.layers) if isinstance(leaf, Ref)]
            memo[key] = Program(self.recording, named, fold=False, made=memo.setdefault("made", {})).kinds
        return memo[key]

    @cached_property
    def readers(self) -> Mapping[str, tuple[str, ...]]:
        """Names of the steps that read each step."""
        return readers_of(tuple(self.kinds.values()))

    @property
    def output(self) -> str | None:
        """The name of the step that is the network's output; None for one that is not one tensor."""
        outputs = self.recording.outputs
        return outputs.name if isinstance(outputs, Ref) else None

    @cached_property
    def labels(self) -> Mapping[str, str]:
        """What a person calls a step: the path of the innermost module that returned it, else the step's name."""
        return {step.name: self.recording.labels.get(step.name, step.name) for step in self.recording.steps}

    def at(self, size: Pair, channels: int | None = None) -> Network:
        """The same network for images of another size."""
        channels = self.channels if channels is None else channels
        same = (size, channels) == (self.size, self.channels)
        return self if same else trace_model(self.model, (channels, *size))

    def resolve(self, layer: str) -> str:
        """The name of the step that ``layer`` means, see :meth:`Recording.resolve`."""
        return self.recording.resolve(layer)

    def shape(self, name: str, batch: int = 1) -> tuple[int, ...]:
        """The shape of a step's value for ``batch`` images; () of a step of several values."""
        return tuple(side.at(batch) if isinstance(side, Sized) else side for side in self.recording.by_name[name].shape)

    def run(
        self, images: Tensor, keep: Iterable[str], *, hook: Callable[[Step, tuple[Any, ...]], Any] | None = None
    ) -> dict[str, Any]:
        """Runs the network forwards once, see :meth:`Recording.run`; images of another size are recorded for theirs."""
        return self.at((images.shape[2], images.shape[3]), images.shape[1]).recording.run(images, keep, hook=hook)

    def activations(self, images: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        """One forward pass; the values [N, C, h, w] (or [N, units]) of ``layers``, under the names given."""
        names = {layer: self.resolve(layer) for layer in layers}
        values = self.run(images, names.values())
        return {layer: values[name] for layer, name in names.items()}

    def layer_info(self) -> list[LayerInfo]:
        """The table of layers."""
        return [self._row(kind) for kind in self.kinds.values() if kind.name != INPUT and self.shape(kind.name)]

    def info(self, layer: str) -> LayerInfo:
        """The row of one layer."""
        return self._row(self.kinds[self.resolve(layer)])

    def _row(self, kind: Kind) -> LayerInfo:
        shape, maps = self.shape(kind.name), kind.maps
        has_maps = len(shape) == 4 and (maps is None or maps.is_planar)
        channels = maps.channels if maps is not None and len(shape) == 4 else shape[1] if len(shape) > 1 else 1
        field = self._fields[kind.name] if has_maps else None
        return LayerInfo(
            self.labels[kind.name],
            kind.name,
            kind.kind,
            channels,
            (shape[2], shape[3]) if has_maps else None,
            (field[0][0], field[1][0]) if field else None,
            (min(field[0][2] - field[0][1], self.size[0]), min(field[1][2] - field[1][1], self.size[1]))
            if field else None,
            kind.is_rectifier,
            kind.filters is not None,
        )  # fmt: skip

    @cached_property
    def _fields(self) -> dict[str, Field | None]:
        """What one inner cell of each step depends on; None where it is the whole image, or not the same all over."""
        known: dict[str, Field | None] = {}
        for kind in self.kinds.values():
            if kind.name == INPUT:
                known[kind.name] = (1, 0, 1), (1, 0, 1)
                continue
            slides, sources = kind.slides, [known[name] for name in kind.inputs]
            fields = [field for field in sources if field is not None]
            even = fields and len(fields) == len(sources) and len({tuple(a[0] for a in field) for field in fields}) == 1
            known[kind.name] = None
            if slides is not None and even:
                axes = []
                for axis in (0, 1):
                    stride = fields[0][axis][0]
                    first = min(field[axis][1] for field in fields) - slides.padding[axis] * stride
                    last = max(field[axis][2] for field in fields)
                    last += (slides.extent[axis] - 1 - slides.padding[axis]) * stride
                    axes.append((stride * slides.stride[axis], first, last))
                known[kind.name] = axes[0], axes[1]
        return known


def trace_model(model: nn.Module, images: Tensor | tuple[int, ...] | None = None) -> Network:
    """The network that ``model`` is for images of one size: recorded while it runs once, as it is.

    The model is left untouched; :func:`zfkernels.network.record` says what is recorded.

    Args:
        model: any nn.Module in eval mode that can be called with one batch of images.
        images: [N, C, H, W], (C, H, W), or (H, W): what it is recorded for. None: ``model.input_size``, else 224. As
            many channels as its first convolution takes where none are given.

    Returns:
        The :class:`Network`.

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
    return Network(record(model, images))


def _default_size(model: Any) -> Pair:
    known: Any = getattr(model, "input_size", DEFAULT_SIZE)
    return (known, known) if isinstance(known, int) else (known[-2], known[-1])

"""DeconvNet: project an activation down to the pixels that it answers to.

An activation is sent down layer by layer, as its value and zeros elsewhere: unpool with the switches of its own image,
rectify, filter with the transposed filters. Only cells that can be other than zero are computed: the signal is a
window that grows from one cell to the activation's receptive field, and thousands of them travel in one batch, each
with exactly the box that it depends on.

Source: Zeiler & Fergus 2013 (arXiv 1311.2901), section 2.1, figure 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from zfkernels.checks import recording_for, refuse_difference
from zfkernels.deconvnet.descent import Clean, Descent, Entry, Manner
from zfkernels.deconvnet.graph import graph_of
from zfkernels.deconvnet.rules import DECONVNET, Rules
from zfkernels.deconvnet.units import (
    as_maps,
    batches_of,
    chosen_units,
    entry,
    entry_of_all,
    entry_where_not_zero,
    unit_boxes,
)
from zfkernels.network import INPUT, Recording, Step, refuse_training, undisturbed
from zfkernels.network.kinds import Kind
from zfkernels.network.network import LayerInfo, Network, trace_model
from zfkernels.progress import progress_bar
from zfkernels.results import Look, Projections
from zfkernels.signed import signed
from zfkernels.windows import Layout, Windows


class DeconvNet:
    """A network, ready to be looked at.

    Args:
        model: any nn.Module in eval mode; it is left untouched. It is recorded when images are first seen, and again
            when their size or its weights, flags or hooks have changed.
        overlap: what happens where pooling windows overlap and select the same pixel: ``"sum"``, the exact adjoint of
            max-pooling, or ``"last"``, the last window in row-major order wins (as ``F.max_unpool2d``).
        rules: which steps follow the paper's rules and which their derivative.
        backend: variant of the ops, asked for by name; None chooses by device.

    Raises:
        TypeError: no nn.Module.
        ValueError: the model is in training mode.
    """

    def __init__(
        self, model: nn.Module, *, overlap: str = "sum", rules: Rules = DECONVNET, backend: str | None = None
    ) -> None:
        if overlap not in ("sum", "last"):
            raise ValueError(f"DeconvNet: expected overlap one of ('sum', 'last'), got {overlap!r}")
        if not isinstance(model, nn.Module):
            raise TypeError(f"DeconvNet: expected model an nn.Module, got {type(model).__name__}")
        with signed("DeconvNet"):
            refuse_training(model)
        self.model = model
        self.overlap, self.rules, self.backend = overlap, rules, backend

    @property
    def network(self) -> Network:
        """The network for images of ``model.input_size`` (else 224)."""
        return trace_model(self.model)

    def network_at(self, image_size: tuple[int, int]) -> Network:
        """The network for images of this size (height, width)."""
        return trace_model(self.model, image_size)

    @cached_property
    def layers(self) -> list[LayerInfo]:
        """The table of layers: name, kind, channels, size, stride, receptive field (at ``model.input_size`` or 224)."""
        return self.network.layer_info()

    def receptive_field(self, layer: str, positions: Tensor, image_size: tuple[int, int]) -> Tensor:
        """Receptive fields of cells at ``positions`` int [P, 2] of a layer, for images of ``image_size``.

        Returns:
            int64 [P, 4]: top, left, bottom, right in pixels, half-open, clipped to the image.
        """
        recording = self.network_at(image_size).recording
        name, count = recording.resolve(layer), len(positions)
        graph = graph_of(recording, (name,), self.rules)
        boxes = unit_boxes(graph.kinds[name], len(recording.by_name[name].shape), positions.to("cpu", torch.int64))
        fields = graph.boxes({name: (torch.arange(count), boxes)}, count)[INPUT]
        return torch.cat([fields.lo, fields.hi], 1)

    @torch.no_grad()
    @signed("project")
    def project(
        self,
        images: Tensor,  # [N, C, H, W]
        layer: str,
        channels: int | Sequence[int] | None = None,
        position: str | tuple[int, int] = "max",
        units: Tensor | None = None,  # int [P, 4]
        batch_size: int = 256,
        progress: bool = False,
    ) -> Projections:
        """Projects activations of one layer down to pixels.

        The activation's value is injected, a negative one included (rectification happens below it); a zero one gives
        a zero projection. Going down: rectifiers pass max(signal, 0); contrast normalisation passes everything;
        batch normalisation multiplies with its scale; average pooling, addition and concatenation pass their adjoint;
        other non-linearities their gradient. Biases do not take part, and the pixels are not rectified.

        Source: Zeiler & Fergus 2013 (arXiv 1311.2901), section 2.1.

        Args:
            images: [N, C, H, W], in the model's input units, of its dtype.
            layer: a module's path (a container: its output; used several times: its last call, or ``"path:k"``), or
                the name of a recorded step.
            channels: maps: None (all), one, or several.
            position: ``"max"``, the strongest place of each map in each image (ties: the first in row-major order), or
                (row, column).
            units: int [P, 4] (image, channel, row, column), in any order, instead of ``channels`` and ``position``.
            batch_size: projections that travel together; memory grows with it.
            progress: show a progress bar.

        Returns:
            :class:`Projections`, one for each image and channel (image-major), or for each unit.

        Raises:
            TypeError: images that are no tensor of the model's dtype.
            ValueError: unknown layer, channel or position outside the layer, images of a wrong shape.
            UnrecordableError: what the model does depends on the values that it computes; the message names the
                module and the line.
        """
        return self.forward(images, [layer]).project(layer, channels, position, units, batch_size, progress)

    @torch.no_grad()
    @undisturbed()
    def forward(
        self,
        images: Tensor,  # [N, C, H, W]
        layers: Sequence[str],
    ) -> Forward:
        """One forward pass, from which activations of several layers can be projected.

        Args:
            images: as for :meth:`project`.
            layers: names as for :meth:`project`.

        Raises:
            TypeError, ValueError: as :meth:`project`.
        """
        recording = recording_for("project", self.model, images)
        mixes = refuse_difference("project", recording, images).mixes
        names = {layer: recording.resolve(layer) for layer in layers}
        clean, values = self._forward(recording, images, tuple(dict.fromkeys(names.values())))
        if mixes and len(images) > 1:
            _refuse_mixed(recording, images, {layer: (name, values[name]) for layer, name in names.items()})
        return Forward(self, recording, images, clean, names, values, bool(mixes))

    @torch.no_grad()
    @undisturbed()
    def pull_back(
        self,
        images: Tensor,  # [N, C, H, W]
        layer: str,
        signal: Callable[[Tensor], Tensor],
    ) -> Tensor:  # [N, C, H, W]
        """Sends a signal at a whole layer down to the pixels, all of its cells together.

        :meth:`project` sends activations down one by one; here they meet on their way, and a rectifier sees their sum.
        Only the windows that the signal's cells other than zero can reach are computed.

        Source: Zeiler & Fergus 2013 (arXiv 1311.2901), section 2.1.

        Args:
            images: [N, C, H, W], in the model's input units, of its dtype.
            layer: as for :meth:`project`.
            signal: from the layer's value [N, ...] to what is injected, of the same shape.

        Returns:
            [N, C, H, W], of ``images``' dtype.

        Raises:
            TypeError: images that are no tensor of the model's dtype.
            ValueError: unknown layer, images or a signal of a wrong shape.
        """
        recording = recording_for("pull_back", self.model, images)
        refuse_difference("pull_back", recording, images)
        name = recording.resolve(layer)
        clean, values = self._forward(recording, images, (name,))
        value = values[name]
        injected = signal(value)
        if injected.shape != value.shape:
            raise ValueError(
                f"pull_back: expected signal of the layer's shape {tuple(value.shape)}, got {tuple(injected.shape)}"
            )
        graph = graph_of(recording, (name,), self.rules)
        maps = graph.kinds[name].maps
        entered = entry_of_all(injected) if maps is None else entry_where_not_zero(maps, injected)
        image = torch.arange(len(images), device=images.device)
        return Descent(graph, clean, {name: entered}, image, self.manner).run().paste()

    @property
    def manner(self) -> Manner:
        """How signals go down: ``rules``, ``overlap`` and ``backend``."""
        return Manner(self.rules, self.overlap, self.backend)

    def _forward(
        self, recording: Recording, images: Tensor, targets: tuple[str, ...]
    ) -> tuple[Clean, dict[str, Tensor]]:
        """One forward pass up to ``targets``; keeps switches, and inputs where a derivative will need them."""
        graph = graph_of(recording, targets, self.rules)
        switches: dict[str, Tensor] = {}

        def watch(step: Step, inputs: tuple[Any, ...]) -> Any:
            kind = graph.kinds.get(step.name)
            found = None if kind is None else kind.run_with_switches(
                dict(zip(step.inputs, inputs, strict=True)), len(images), self.backend
            )  # fmt: skip
            if found is None:
                return None
            value, switches[step.name] = found
            return value

        values = recording.run(images, {*targets, *graph.clean}, hook=watch)
        clean = Clean({name: values[name] for name in graph.clean}, switches)
        return clean, {name: values[name] for name in targets}


@dataclass(frozen=True)
class Forward:
    """One forward pass of some images through a network; :meth:`DeconvNet.forward` makes one.

    Attributes:
        net: what projects.
        recording: of the network, for images of this size.
        images: [N, C, H, W].
        clean: what the way down needs.
        names: of the layers' steps, by the names that were asked for.
        values: of these steps.
        alone: the model's images depend on each other, so that each projection goes by itself.
    """

    net: DeconvNet
    recording: Recording
    images: Tensor
    clean: Clean
    names: Mapping[str, str]
    values: Mapping[str, Tensor]
    alone: bool = False

    def activations(self, layer: str) -> Tensor:
        """The layer's maps [N, C, h, w]; of a layer without maps [N, C, 1, 1]."""
        name = self.names[layer]
        return as_maps(self.values[name], self._kind(name))

    @torch.no_grad()
    @undisturbed()
    def project(
        self,
        layer: str,
        channels: int | Sequence[int] | None = None,
        position: str | tuple[int, int] = "max",
        units: Tensor | None = None,
        batch_size: int = 256,
        progress: bool = False,
    ) -> Projections:
        """Projects activations of one of the layers; arguments and result as those of :meth:`DeconvNet.project`."""
        chosen = chosen_units(self.activations(layer), layer, channels, position, units)
        return self.project_layers({layer: chosen}, batch_size, progress)[layer]

    @torch.no_grad()
    @undisturbed()
    def project_layers(
        self, units: Mapping[str, Tensor], batch_size: int = 256, progress: bool = False
    ) -> dict[str, Projections]:
        """Projects activations of several of the layers at once: they share the layers below.

        Args:
            units: of each layer int [P, 4] (image, channel, row, column).
            batch_size: projections that travel together.
            progress: show a progress bar.

        Returns:
            The :class:`Projections` of each layer.

        Raises:
            TypeError, ValueError: as :meth:`DeconvNet.project`.
        """
        if not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(f"project: expected batch_size a positive int, got {batch_size!r}")
        chosen = {
            layer: chosen_units(self.activations(layer), layer, None, "max", wanted) for layer, wanted in units.items()
        }
        parts: dict[str, list[Windows]] = {layer: [] for layer in chosen}
        total = sum(map(len, chosen.values()))
        with progress_bar(total, "projections", progress) as advance:
            for batch in batches_of(chosen, 1 if self.alone else batch_size):
                for layer, windows in self._descend(batch).items():
                    parts[layer].append(windows)
                advance(sum(map(len, batch.values())))
        return {layer: self._projections(layer, chosen[layer], parts[layer]) for layer in chosen}

    def _descend(self, units: Mapping[str, Tensor]) -> dict[str, Windows]:
        """The pixels of one batch of units, by their layers."""
        names = tuple(dict.fromkeys(self.names[layer] for layer in units))
        graph = graph_of(self.recording, names, self.net.rules)
        entries: dict[str, Entry] = {}
        first = 0
        for layer, here in units.items():
            name, rows = self.names[layer], torch.arange(first, first + len(here))
            entered = entry(graph.kinds[name], self.values[name], rows, here, self._activation(layer, here))
            entries[name] = entries[name].with_more(entered) if name in entries else entered
            first += len(here)
        image = torch.cat([here[:, 0] for here in units.values()])
        pixels = Descent(graph, self.clean, entries, image, self.net.manner).run()
        return dict(zip(units, _split(pixels, [len(here) for here in units.values()]), strict=True))

    def _activation(self, layer: str, units: Tensor) -> Tensor:
        image, channel, row, column = units.unbind(1)
        return self.activations(layer)[image, channel, row, column]

    def _projections(self, layer: str, units: Tensor, parts: Sequence[Windows]) -> Projections:
        size = self.recording.size
        boxes = torch.cat([part.boxes for part in parts]) if parts else units.new_zeros((0, 4), dtype=torch.int32)
        values = [part.values for part in parts] or [self.images.new_zeros(0, self.images.shape[1])]
        field = boxes.long()
        field = torch.cat([field[:, :2], field[:, :2] + field[:, 2:]], 1)
        return Projections(
            layer, Layout.of(boxes, units[:, 0], size).windows(torch.cat(values)), units[:, 0], units[:, 1],
            units[:, 2:], self._activation(layer, units), field.cpu(), Look.of(self.net.model),
        )  # fmt: skip

    def _kind(self, name: str) -> Kind:
        return graph_of(self.recording, tuple(dict.fromkeys(self.names.values())), self.net.rules).kinds[name]


def _split(windows: Windows, counts: Sequence[int]) -> Iterator[Windows]:
    """Windows of consecutive rows."""
    first = 0
    ends = windows.offsets[torch.tensor([0, *counts]).cumsum(0)].tolist()
    for count, start, end in zip(counts, ends, ends[1:], strict=False):
        rows = slice(first, first + count)
        offsets = windows.offsets[first : first + count + 1] - start
        yield Windows(windows.values[start:end], windows.boxes[rows], offsets, windows.image[rows], windows.frame)
        first += count


def _refuse_mixed(recording: Recording, images: Tensor, values: Mapping[str, tuple[str, Tensor]]) -> None:
    """Raises ValueError for layers whose value for an image depends on the other images of the batch."""
    alone = recording.run(images[:1], [name for name, _ in values.values()])
    for layer, (name, value) in values.items():
        if not torch.allclose(alone[name], value[:1], rtol=1e-3, atol=1e-6):
            raise ValueError(
                f"project: expected one image at a time for layer {layer!r}, whose value for an image depends on the "
                f"others, got {len(images)} images"
            )

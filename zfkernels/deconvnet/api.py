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
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from zfkernels.checks import recording_for, refuse_difference
from zfkernels.deconvnet.descent import Clean, Descent, Manner
from zfkernels.deconvnet.graph import graph_of
from zfkernels.deconvnet.places import Entry, UnitPlaces, layout_on
from zfkernels.deconvnet.rules import DECONVNET, Rules
from zfkernels.deconvnet.units import (
    Units,
    all_of,
    as_maps,
    batches_of,
    chosen_units,
    entering,
    given_units,
    unit_boxes,
    where_not_zero,
)
from zfkernels.geometry import Boxes
from zfkernels.network import INPUT, Recording, Step, refuse_training, undisturbed
from zfkernels.network.kinds import Kind
from zfkernels.network.network import LayerInfo, Network, trace_model
from zfkernels.progress import progress_bar
from zfkernels.results import Look, Projections
from zfkernels.signed import signed


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
        entry, entered = all_of(injected) if maps is None else where_not_zero(maps, injected)
        placed = UnitPlaces(graph, {name: entry}, torch.arange(len(images))).on(images.device)
        return Descent(graph, clean, placed, {name: entered}, self.manner).run().paste()

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
        if units is None:
            chosen = chosen_units(self.activations(layer), layer, channels, position)
        elif channels is None and position == "max":
            chosen = given_units(self.activations(layer), layer, units)
        else:
            raise ValueError("project: expected units, or channels and position, got both")
        return self._project({layer: chosen}, batch_size, progress)[layer]

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
        chosen = {layer: given_units(self.activations(layer), layer, wanted) for layer, wanted in units.items()}
        return self._project(chosen, batch_size, progress)

    def _project(self, units: Mapping[str, Units], batch_size: int, progress: bool) -> dict[str, Projections]:
        """The projections of units of several layers. The host does not wait for a GPU: it prepares the next batch."""
        if not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(f"project: expected batch_size a positive int, got {batch_size!r}")
        parts: dict[str, list[Pixels]] = {layer: [] for layer in units}
        with progress_bar(sum(map(len, units.values())), "projections", progress) as advance:
            for batch in batches_of(units, 1 if self.alone else batch_size):
                for layer, pixels in self._descend(batch).items():
                    parts[layer].append(pixels)
                advance(sum(map(len, batch.values())))
        return {layer: self._projections(layer, units[layer], parts[layer]) for layer in units}

    def _descend(self, units: Mapping[str, Units]) -> dict[str, Pixels]:
        """The pixels of one batch of units, by their layers."""
        names = tuple(dict.fromkeys(self.names[layer] for layer in units))
        graph = graph_of(self.recording, names, self.net.rules)
        entries: dict[str, list[Entry]] = {name: [] for name in names}
        first = 0
        for layer, chosen in units.items():
            name, rows = self.names[layer], torch.arange(first, first + len(chosen))
            boxes = unit_boxes(graph.kinds[name], self.values[name].dim(), chosen.here[:, 2:])
            entries[name].append(Entry(rows, boxes))
            first += len(chosen)
        image = torch.cat([chosen.here[:, 0] for chosen in units.values()])
        places = UnitPlaces(graph, {name: Entry.of(parts) for name, parts in entries.items()}, image)
        placed = places.on(self.images.device)
        values: dict[str, list[Tensor]] = {name: [] for name in names}
        for layer, chosen in units.items():
            name, activation = self.names[layer], self._activation(layer, chosen.there)
            values[name].append(entering(graph.kinds[name], self.values[name], chosen.there, activation))
        entered = {name: torch.cat(parts) for name, parts in values.items()}
        pixels = Descent(graph, self.clean, placed, entered, self.net.manner).run()
        return dict(zip(units, _split(pixels.values, places.pixels, list(map(len, units.values()))), strict=True))

    def _activation(self, layer: str, units: Tensor) -> Tensor:
        image, channel, row, column = units.unbind(1)
        return self.activations(layer)[image, channel, row, column]

    def _projections(self, layer: str, units: Units, parts: Sequence[Pixels]) -> Projections:
        lo, hi = (
            torch.cat([getattr(part.boxes, end) for part in parts]) if parts else units.here[:, :2]
            for end in ("lo", "hi")
        )
        values = [part.values for part in parts] or [self.images.new_zeros(0, self.images.shape[1])]
        layout = layout_on(self.images.device, Boxes(lo, hi), units.here[:, 0], self.recording.size)
        return Projections(
            layer, layout.windows(torch.cat(values)), units.there[:, 0], units.there[:, 1], units.there[:, 2:],
            self._activation(layer, units.there), torch.cat([lo, hi], 1), Look.of(self.net.model),
        )  # fmt: skip

    def _kind(self, name: str) -> Kind:
        return graph_of(self.recording, tuple(dict.fromkeys(self.names.values())), self.net.rules).kinds[name]


class Pixels(NamedTuple):
    """Pixels of some units: ``values`` [cells, C] in ``boxes``; the boxes are on the CPU."""

    values: Tensor
    boxes: Boxes


def _split(values: Tensor, boxes: Boxes, counts: Sequence[int]) -> Iterator[Pixels]:
    """Cuts the pixels [cells, C] of consecutive units into parts of ``counts`` units."""
    lo, hi = boxes.lo.split(counts), boxes.hi.split(counts)
    cells = [int(part.prod(1).sum()) for part in boxes.size.split(counts)]
    yield from (Pixels(part, Boxes(*ends)) for part, *ends in zip(values.split(cells), lo, hi, strict=True))


def _refuse_mixed(recording: Recording, images: Tensor, values: Mapping[str, tuple[str, Tensor]]) -> None:
    """Raises ValueError for layers whose value for an image depends on the other images of the batch."""
    alone = recording.run(images[:1], [name for name, _ in values.values()])
    for layer, (name, value) in values.items():
        if not torch.allclose(alone[name], value[:1], rtol=1e-3, atol=1e-6):
            raise ValueError(
                f"project: expected one image at a time for layer {layer!r}, whose value for an image depends on the "
                f"others, got {len(images)} images"
            )

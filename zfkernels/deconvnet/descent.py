"""The way down: signals of many units at once, from the layers at which they enter to the pixels.

Each step hands its signal to the steps that it reads (``Kind.send_down``); where branches meet, signals add up. Every
unit has exactly the box that it depends on in every step, and none in the steps that it enters below. Where everything
lies is known, and on the device, before the first step; after that nothing is read on the host or copied from it, but
the layouts of whole frames that derivatives are taken on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from zfkernels.deconvnet.graph import Graph
from zfkernels.geometry import Boxes
from zfkernels.network import INPUT
from zfkernels.network.kinds import Pooled, Rules, Signal, unpooled
from zfkernels.network.kinds.base import whole
from zfkernels.ops import window_gather
from zfkernels.windows import Layout, Windows


@dataclass(frozen=True)
class Clean:
    """What one forward pass leaves for the ways down, by the steps' names.

    Attributes:
        values: of the steps that derivatives are taken at.
        switches: of the max-poolings, uint8 [N, C, Hp, Wp].
    """

    values: Mapping[str, Tensor]
    switches: Mapping[str, Tensor]


@dataclass(frozen=True)
class Entry:
    """What enters at one step.

    Attributes:
        rows: int64 [k], which of the units, on the CPU, in rising order.
        boxes: of these units; of a step without maps one cell for all of it.
        values: [cells of the boxes, C], or [k, ...] of a step without maps.
    """

    rows: Tensor
    boxes: Boxes
    values: Tensor

    def with_more(self, other: Entry) -> Entry:
        """Both, those of ``other`` behind."""
        boxes = Boxes(torch.cat([self.boxes.lo, other.boxes.lo]), torch.cat([self.boxes.hi, other.boxes.hi]))
        return Entry(torch.cat([self.rows, other.rows]), boxes, torch.cat([self.values, other.values]))


@dataclass(frozen=True)
class Reached:
    """The units that reach a step.

    Attributes:
        rows: int64 [R], which they are, on the CPU.
        place: int64 [K], which of them each unit is, on the CPU.
        rows_there, place_there: the same on the device.
        image: int64 [R], the image of each.
    """

    rows: Tensor
    place: Tensor
    rows_there: Tensor
    place_there: Tensor
    image: Tensor


@dataclass(frozen=True)
class Manner:
    """How a DeconvNet goes down: its rules, what overlapping pooling windows do, and the variant of the ops."""

    rules: Rules
    overlap: str
    backend: str | None


class Descent:
    """Takes the signals of K units down; the kinds of steps see it (``kinds.Descent``).

    Args:
        graph: the steps.
        clean: what the forward pass left.
        entries: by the names of the steps where units enter.
        image: int64 [K], the image of each unit.
        manner: how.
    """

    def __init__(self, graph: Graph, clean: Clean, entries: Mapping[str, Entry], image: Tensor, manner: Manner) -> None:
        self.graph, self._clean, self.entries, self.units = graph, clean, entries, image
        self.rules, self.overlap, self.backend = manner.rules, manner.overlap, manner.backend
        self.host = image.cpu()
        self.boxes = graph.boxes({name: (entry.rows, entry.boxes) for name, entry in entries.items()}, len(image))
        self.layouts: dict[Any, Layout] = {}
        self.reached: dict[str, Reached] = {}
        self.entering: dict[str, Tensor] = {}  # of units that are not all: the cells, or rows, that they enter at
        self.signals: dict[str, Signal] = {}
        self._place()

    def run(self) -> Windows:
        """The windows of the pixels, one for each unit.

        Raises:
            ValueError: the layer does not depend on the images.
        """
        for kind in reversed(self.graph.kinds.values()):
            if kind.name in self.entries:
                self._enter(kind.name, self.entries[kind.name])
            signal = None if kind.name == INPUT else self.signals.pop(kind.name, None)
            if signal is not None:
                for name, below in kind.send_down(signal, self):
                    self._add(name, below, kind.name)
        pixels = self.signals.get(INPUT)
        if not isinstance(pixels, Windows):
            raise ValueError(f"DeconvNet: expected a layer that depends on the images, got {[*self.entries]}")
        return pixels

    def _place(self) -> None:
        """Makes what the steps will ask for: where cells lie, and which units there are."""
        device = self.units.device
        for kind in self.graph.kinds.values():
            if kind.name not in self.boxes:
                continue
            reached = self._reached(kind.name)
            if kind.maps is not None:
                self.layout(kind.name)
                continue
            for name, below in zip(kind.inputs, kind.below, strict=True):
                if below is not None and name in self.boxes:
                    self.whole(name, kind.name)
            entry = self.entries.get(kind.name)
            if entry is not None and len(entry.rows) < len(reached.rows):
                self.entering[kind.name] = reached.place[entry.rows].to(device)
        for name, entry in self.entries.items():
            maps = self.graph.kinds[name].maps
            if maps is not None and len(entry.rows) < len(self.units):
                there = torch.zeros(len(self.units), dtype=torch.bool).index_fill_(0, entry.rows, True)
                cells = there.repeat_interleave(self.boxes[name].size.prod(1))
                self.entering[name] = cells.nonzero().flatten().to(device)

    def layout(self, name: str) -> Layout:
        return self._layout(name, self.boxes[name])

    def whole(self, name: str, reaching: str) -> Layout:
        maps = self.graph.kinds[name].maps
        assert maps is not None
        return self._layout(name, whole(self.boxes[reaching], maps.frame))

    def image(self, name: str) -> Tensor:
        return self._reached(name).image

    def rows(self, name: str) -> Tensor:
        return self._reached(name).place_there

    def clean(self, name: str) -> Tensor:
        return self._clean.values[name]

    def frames(self, name: str) -> Tensor:
        maps = self.graph.kinds[name].maps
        assert maps is not None
        return maps.frames(self.clean(name))

    def switches(self, name: str) -> Tensor:
        return self._clean.switches[name]

    def gather(self, sources: Sequence[Any], frames: Tensor | None, layout: Layout) -> Windows:
        return window_gather(sources, frames, layout, backend=self.backend)

    def _layout(self, name: str, boxes: Boxes) -> Layout:
        """The layout of boxes of a step; equal ones are one object."""
        maps = self.graph.kinds[name].maps
        assert maps is not None, name
        flat = boxes.flat.contiguous()
        key = maps.frame, flat.numpy().tobytes()
        if key not in self.layouts:
            layout = Layout.of(flat, self.host, maps.frame)
            self.layouts[key] = layout.to(self.units.device, non_blocking=True)
        return self.layouts[key]

    def _reached(self, name: str) -> Reached:
        if name not in self.reached:
            there = (self.boxes[name].size > 0).all(1)
            rows, place = there.nonzero().flatten(), (there.cumsum(0) - 1).clamp(min=0)
            device, every = self.units.device, len(rows) == len(self.units)
            rows_there, place_there = rows.to(device), place.to(device)
            image = self.units if every else self.units.index_select(0, rows_there)
            self.reached[name] = Reached(rows, place, rows_there, place_there, image)
        return self.reached[name]

    def _enter(self, name: str, entry: Entry) -> None:
        whole, values = self.graph.kinds[name].maps is None, entry.values
        if name in self.entering:
            length = len(self._reached(name).rows) if whole else self.layout(name).cells
            values = _spread(values, self.entering[name], length)
        self._join(name, values if whole else self.layout(name).windows(values))

    def _add(self, name: str, signal: Signal, sender: str) -> None:
        """Adds what a step hands on to what already waits at one of its inputs."""
        if isinstance(signal, Tensor):
            there, here = self._reached(sender), self._reached(name)
            if len(there.rows) < len(here.rows):
                signal = _spread(signal, here.place_there.index_select(0, there.rows_there), len(here.rows))
        elif isinstance(signal, Pooled):
            alone = self.graph.readers[name] == (sender,) and name not in self.graph.targets
            if alone and self.graph.kinds[name].unpools:
                self.signals[name] = signal
                return
            signal = unpooled(signal, self.layout(name), self)
        elif signal.boxes is not self.layout(name).boxes:
            signal = self.gather([signal], None, self.layout(name))
        self._join(name, signal)

    def _join(self, name: str, signal: Windows | Tensor) -> None:
        waiting = self.signals.get(name)
        if isinstance(waiting, Windows) and isinstance(signal, Windows):
            signal = replace(signal, values=signal.values + waiting.values)
        elif isinstance(waiting, Tensor) and isinstance(signal, Tensor):
            signal = signal + waiting
        self.signals[name] = signal


def _spread(values: Tensor, index: Tensor, length: int) -> Tensor:
    """``values`` in rows ``index`` of zeros [length, ...]."""
    out = values.new_zeros((length, *values.shape[1:]))
    return out.index_copy_(0, index, values)

"""The way down: signals of many units at once, from the layers at which they enter to the pixels.

Each step hands its signal to the steps that it reads (``Kind.send_down``); where branches meet, signals add up. Every
unit has exactly the box that it depends on in every step, and none in the steps that it enters below.
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
        self.reached: dict[str, tuple[Tensor, Tensor]] = {}
        self.signals: dict[str, Signal] = {}

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

    def layout(self, name: str) -> Layout:
        return self._layout(name, self.boxes[name])

    def whole(self, name: str, reaching: str) -> Layout:
        maps = self.graph.kinds[name].maps
        assert maps is not None
        return self._layout(name, whole(self.boxes[reaching], maps.frame))

    def image(self, name: str) -> Tensor:
        chosen = self._reached(name)[0]
        return self.units if len(chosen) == len(self.units) else self.units[chosen.to(self.units.device)]

    def rows(self, name: str) -> Tensor:
        return self._reached(name)[1].to(self.units.device)

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

    def _reached(self, name: str) -> tuple[Tensor, Tensor]:
        """The units that reach a step, int64 [R], and which of them each unit is, int64 [K]."""
        if name not in self.reached:
            there = (self.boxes[name].size > 0).all(1)
            self.reached[name] = there.nonzero().flatten(), (there.cumsum(0) - 1).clamp(min=0)
        return self.reached[name]

    def _enter(self, name: str, entry: Entry) -> None:
        if self.graph.kinds[name].maps is None:
            chosen, place = self._reached(name)
            values = entry.values
            if len(entry.rows) < len(chosen):
                values = _spread(values, place[entry.rows], len(chosen))
            self._join(name, values)
            return
        layout, values = self.layout(name), entry.values
        if len(entry.rows) < len(self.units):
            entering = torch.zeros(len(self.units), dtype=torch.bool)
            entering[entry.rows] = True
            values = _spread(values, entering[layout.owner.cpu().long()].nonzero().flatten(), layout.cells)
        self._join(name, layout.windows(values))

    def _add(self, name: str, signal: Signal, sender: str) -> None:
        """Adds what a step hands on to what already waits at one of its inputs."""
        if isinstance(signal, Tensor):
            there, here = self._reached(sender)[0], self._reached(name)
            if len(there) < len(here[0]):
                signal = _spread(signal, here[1][there], len(here[0]))
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
    """``values`` in rows ``index`` (on the CPU) of zeros [length, ...]."""
    out = values.new_zeros((length, *values.shape[1:]))
    return out.index_copy_(0, index.to(values.device), values)

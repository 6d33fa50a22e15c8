"""The way down: signals of many units at once, from the layers at which they enter to the pixels.

Each step hands its signal to the steps that it reads (``Kind.send_down``); where branches meet, signals add up. Every
unit has exactly the box that it depends on in every step, and none in the steps that it enters below. Where everything
lies is known, and on the device, before the first step; after that nothing is read on the host or copied from it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from zfkernels.deconvnet.graph import Graph
from zfkernels.deconvnet.places import Placed
from zfkernels.network import INPUT
from zfkernels.network.kinds import Pooled, Rules, Signal, unpooled
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
        placed: where the signals lie.
        entering: the values of the units that enter at a step, by its name: [cells of their boxes, C], or [k, ...] at a
            step without maps.
        manner: how.
    """

    def __init__(
        self, graph: Graph, clean: Clean, placed: Placed, entering: Mapping[str, Tensor], manner: Manner
    ) -> None:
        self.graph, self._clean, self._placed, self._entering = graph, clean, placed, entering
        self.rules, self.overlap, self.backend = manner.rules, manner.overlap, manner.backend
        self.signals: dict[str, Signal] = {}

    def run(self) -> Windows:
        """The windows of the pixels, one for each unit.

        Raises:
            ValueError: the layer does not depend on the images.
        """
        for kind in reversed(self.graph.kinds.values()):
            if kind.name in self._entering:
                self._enter(kind.name, self._entering[kind.name])
            signal = None if kind.name == INPUT else self.signals.pop(kind.name, None)
            if signal is not None:
                for name, below in kind.send_down(signal, self):
                    self._add(name, below, kind.name)
        pixels = self.signals.get(INPUT)
        if not isinstance(pixels, Windows):
            raise ValueError(f"DeconvNet: expected a layer that depends on the images, got {[*self._entering]}")
        return pixels

    def layout(self, name: str) -> Layout:
        return self._placed.layouts[name]

    def whole(self, name: str, reaching: str) -> Layout:
        maps = self.graph.kinds[name].maps
        assert maps is not None
        return self._placed.whole(maps.frame, reaching)

    def image(self, name: str) -> Tensor:
        return self._placed.reached[name].image

    def rows(self, name: str) -> Tensor:
        return self._placed.reached[name].place

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

    def _enter(self, name: str, values: Tensor) -> None:
        is_whole, among = self.graph.kinds[name].maps is None, self._placed.entering.get(name)
        if among is not None:
            length = len(self._placed.reached[name].rows) if is_whole else self.layout(name).cells
            values = _spread(values, among, length)
        self._join(name, values if is_whole else self.layout(name).windows(values))

    def _add(self, name: str, signal: Signal, sender: str) -> None:
        """Adds what a step hands on to what already waits at one of its inputs."""
        if isinstance(signal, Tensor):
            there, here = self._placed.reached[sender], self._placed.reached[name]
            if len(there.rows) < len(here.rows):
                signal = _spread(signal, here.place.index_select(0, there.rows), len(here.rows))
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

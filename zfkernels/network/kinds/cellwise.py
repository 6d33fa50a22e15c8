"""Functions of one cell: each cell of the value is computed from the channels of the same cell of the inputs alone.

Their windows are those of their inputs. They run on the cells of all windows at once, as on maps of one row; what they
do to the channels (norms, products, choices and orders of channels, concatenations) stays as it was recorded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from zfkernels.network.kinds.base import Chunk, Kind, Scene, aligned, op_name, sizes_of
from zfkernels.network.kinds.cell_rules import RULES
from zfkernels.network.kinds.linear import is_affine
from zfkernels.network.kinds.signals import Descent, Signal, derivative
from zfkernels.network.maps import Maps
from zfkernels.network.recording import Step
from zfkernels.windows import Layout, Windows, cell_places


@dataclass(frozen=True)
class Reading:
    """What the cells of a signal read of one input.

    Attributes:
        maps: where a value of the input holds its maps.
        value: [cells, C] of an input with maps; of one without the whole value [R, ...].
        place: int64 [cells], the cell of a value without maps that each cell reads, as all cells are numbered; None:
            its own.
    """

    maps: Maps
    value: Tensor
    place: Tensor | None = None

    def spread(self, value: Tensor) -> Tensor:
        """``value``, or others like it, with the axes of the input."""
        if self.place is None:
            return self.maps.spread(value)
        axes = (0, *self.maps.space, *self.maps.channel_axes)
        cells = value.permute(axes).reshape(-1, self.maps.channels)
        return self.maps.spread(cells.index_select(0, self.place))


class Cellwise(Kind):
    """A function of one cell; ``cell_rules.RULES`` say which operations are."""

    kind = "function of a cell"

    def __init__(
        self, step: Step, scene: Scene, maps: Maps, inputs: tuple[str, ...] | None = None, multiply_adds: int = 0
    ) -> None:
        super().__init__(step, scene, maps, inputs)
        self.cost = multiply_adds

    @classmethod
    def recognise(cls, step: Step, scene: Scene) -> Kind | None:
        rule = RULES.get(op_name(step))
        if rule is None or not step.inputs or any(scene.maps(name) is None for name in step.inputs):
            return None
        found = rule(step, scene)
        return None if found is None else cls(step, scene, found.maps, multiply_adds=found.multiply_adds)

    def run_on_windows(self, chunk: Chunk) -> Windows:
        assert self.maps is not None
        layout = chunk.layout(self.name)
        values: dict[str, Any] = {}
        for name, maps in zip(self.inputs, self.below, strict=True):
            assert maps is not None
            values[name] = maps.spread(aligned(chunk, name, layout).values)
        return layout.windows(self.maps.cells(self.on_cells(values, chunk, layout)))

    def on_cells(self, values: Mapping[str, Any], chunk: Chunk | Descent, layout: Layout) -> Tensor:
        """The value on cells that have the axes of the inputs."""
        return self.step.run(values, 1)

    @property
    def is_affine(self) -> bool:
        return is_affine(self.step)

    def send_down(self, signal: Signal, descent: Descent) -> Iterator[tuple[str, Signal]]:
        """By its derivative on the cells of the signal's windows."""
        if self.rule(descent.rules) is not None:
            yield from super().send_down(signal, descent)
            return
        assert isinstance(signal, Windows)
        assert self.maps is not None
        layout = descent.layout(self.name)
        readings = [self._reading(index, signal, descent, layout) for index in range(len(self.inputs))]

        def function(*given: Tensor) -> Tensor:
            values = {
                name: reading.spread(value) for name, reading, value in zip(self.inputs, readings, given, strict=True)
            }
            return self.on_cells(values, descent, layout)

        cells = self.maps.spread(signal.values)
        below = derivative(function, cells, [reading.value for reading in readings])
        for name, reading, part in zip(self.inputs, readings, below, strict=True):
            if part is not None:
                yield name, layout.windows(part) if reading.place is None else part

    def _reading(self, index: int, signal: Windows, descent: Descent, layout: Layout) -> Reading:
        """What a signal's cells read of an input."""
        name, maps, source = self.inputs[index], self.below[index], self.sources[index]
        assert self.maps is not None
        if maps is not None:
            if not self.is_affine:
                return Reading(maps, descent.gather([], descent.frames(name), layout).values)
            zero = torch.zeros((), dtype=source.dtype, device=signal.values.device)
            return Reading(maps, zero.expand(layout.cells, maps.channels))
        sizes = sizes_of(source)
        assert sizes is not None
        # A gate: one cell, or one for each place, that a step without maps gave each image.
        of_frame = [sizes[axis - 1] for axis in self.maps.space]
        gate = Maps(sizes, self.maps.rows, self.maps.columns, self.maps.frame)
        row, column = cell_places(layout.boxes, layout.offsets, layout.owner)
        place = descent.rows(self.name).index_select(0, layout.owner)
        at = (row * self.maps.frame[1] + column,) if self.maps.is_merged else (row, column)
        for length, coordinate in zip(of_frame, at, strict=True):
            place = place * length + (coordinate if length > 1 else 0)
        return Reading(gate, self._given(name, source, descent), place)

    @property
    def multiply_adds(self) -> int:
        return self.cost

"""Functions of one cell: each cell of the value is computed from the channels of the same cell of the inputs alone.

Their windows are those of their inputs. They run on the cells of all windows at once, as on maps of one row; what they
do to the channels (norms, products, choices and orders of channels, concatenations) stays as it was recorded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from zfkernels.network.kinds.base import Chunk, Kind, Scene, aligned, op_name
from zfkernels.network.kinds.cell_rules import RULES
from zfkernels.network.maps import Maps
from zfkernels.network.recording import Step
from zfkernels.ragged import Layout, Windows


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

    def on_cells(self, values: Mapping[str, Any], chunk: Chunk, layout: Layout) -> Tensor:
        """The value on cells that have the axes of the inputs."""
        return self.step.run(values, 1)

    @property
    def multiply_adds(self) -> int:
        return self.cost

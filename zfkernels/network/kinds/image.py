"""The images: where a change begins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from zfkernels.network.kinds.base import Chunk, Kind, Scene, sizes_of
from zfkernels.network.maps import Maps
from zfkernels.network.recording import INPUT, Step
from zfkernels.ragged import Windows


class Images(Kind):
    """The input step; its windows show what hides the image."""

    kind = "images"

    @classmethod
    def recognise(cls, step: Step, scene: Scene) -> Kind | None:
        if step.name != INPUT:
            return None
        sizes = sizes_of(step)
        planar = sizes is not None and len(sizes) == 3
        return cls(step, scene, Maps.planar(sizes[0], (sizes[1], sizes[2])) if sizes and planar else None)

    def run(self, values: Mapping[str, Any], batch: int) -> Tensor:
        return values[self.name]

    def run_on_windows(self, chunk: Chunk) -> Windows:
        hidden, layout = chunk.occluder(self.name), chunk.layout(self.name)
        assert hidden is not None
        if hidden.fill.dim() == 1:
            return layout.windows(hidden.fill.expand(layout.cells, -1).contiguous())
        return chunk.gather([], hidden.fill, layout)

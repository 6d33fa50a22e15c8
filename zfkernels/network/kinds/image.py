"""The images: where a change begins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from zfkernels.network.kinds.base import Chunk, Kind, Occluder, Scene, sizes_of
from zfkernels.network.maps import Maps
from zfkernels.network.recording import INPUT, Step
from zfkernels.windows import Layout, Windows, cell_places


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
        return occluded_windows(hidden, layout)


def occluded_windows(hidden: Occluder, layout: Layout) -> Windows:
    """The pixels of the hidden boxes, at ``layout``: what is shown, and the image's own where a mask lets them be."""
    plain = isinstance(hidden.fill, Tensor) and hidden.fill.dim() == 1
    pixel = layout.image[:0]
    if hidden.mask is not None or (isinstance(hidden.fill, Tensor) and not plain):
        rows, columns = cell_places(layout.boxes, layout.offsets, layout.owner)
        height, width = layout.frame
        pixel = (layout.image.index_select(0, layout.owner) * height + rows) * width + columns
    if isinstance(hidden.fill, Windows):
        shown = hidden.fill.values
    elif plain:
        shown = hidden.fill.expand(layout.cells, -1).contiguous()
    else:
        shown = as_pixels(hidden.fill).index_select(0, pixel)
    if hidden.mask is not None:
        shown = torch.where(hidden.mask.values, shown, as_pixels(hidden.images).index_select(0, pixel))
    return layout.windows(shown)


def as_pixels(images: Tensor) -> Tensor:
    """[N, C, H, W] as [N * H * W, C]."""
    return images.permute(0, 2, 3, 1).reshape(-1, images.shape[1])

"""Steps that make a block of cells of each cell."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import torch
from torch import Tensor

from zfkernels.geometry import Boxes, Pair, Sliding, outputs_touched
from zfkernels.network.kinds.base import Chunk, Kind, Scene, arguments, op_name, pair
from zfkernels.network.kinds.signals import Descent, Rules, Signal
from zfkernels.network.kinds.sliding import planar_step
from zfkernels.network.maps import Maps
from zfkernels.network.recording import Step
from zfkernels.ops import window_conv2d
from zfkernels.windows import Windows, cell_places


class Blocks(Kind):
    """Each cell becomes a block of ``size`` cells; ``cells_of`` computes [cells, block, C] from [cells, C']."""

    composed = "blocks of cells, put in order by PyTorch's indexing"

    def __init__(self, step: Step, scene: Scene, maps: Maps, size: Pair) -> None:
        super().__init__(step, scene, maps)
        self.size = size

    def touched(self, changed: Sequence[Boxes]) -> Boxes:
        size = torch.tensor(self.size)
        return Boxes(changed[0].lo * size, changed[0].hi * size)

    def read(self, outputs: Boxes) -> tuple[Boxes, ...]:
        assert self.below[0] is not None
        return (outputs_touched(outputs, Sliding(self.size, self.size), self.below[0].frame),)

    def blocks_of(self, values: Tensor) -> Tensor:
        """[cells, rows * columns, C] of ``values`` [cells, C']."""
        raise NotImplementedError

    def run_on_windows(self, chunk: Chunk) -> Windows:
        windows, layout = chunk.windows(self.inputs[0]), chunk.layout(self.name)
        blocks = self.blocks_of(windows.values).flatten(0, 1)
        row, column = cell_places(layout.boxes, layout.offsets, layout.owner)
        box = windows.boxes.index_select(0, layout.owner).long()
        above, left = row // self.size[0] - box[:, 0], column // self.size[1] - box[:, 1]
        cell = windows.offsets.index_select(0, layout.owner) + above * box[:, 3] + left
        within = row % self.size[0] * self.size[1] + column % self.size[1]
        return layout.windows(blocks.index_select(0, cell * (self.size[0] * self.size[1]) + within))

    def clean_inputs(self, rules: Rules) -> Collection[str]:
        return ()


class PixelShuffle(Blocks):
    """``F.pixel_shuffle``."""

    kind = "pixel shuffle"

    @classmethod
    def recognise(cls, step: Step, scene: Scene) -> Kind | None:
        bound = arguments(step)
        maps = planar_step(step, scene, bound["self"]) if op_name(step) == "pixel_shuffle" else None
        return None if maps is None else cls(step, scene, maps[1], pair(bound["upscale_factor"]))

    def blocks_of(self, values: Tensor) -> Tensor:
        block = self.size[0] * self.size[1]
        return values.view(len(values), -1, block).transpose(1, 2).reshape(len(values), block, -1)

    def send_down(self, signal: Signal, descent: Descent) -> Iterator[tuple[str, Signal]]:
        """As a convolution whose filters each take one cell of a block."""
        assert isinstance(signal, Windows)
        assert self.maps is not None
        cells = self.size[0] * self.size[1]
        taps = torch.eye(cells, dtype=signal.values.dtype, device=signal.values.device)
        weight = taps.view(cells, 1, *self.size).repeat(self.maps.channels, 1, 1, 1)
        yield self.inputs[0], window_conv2d(
            signal, None, weight, stride=self.size, groups=self.maps.channels,
            out_boxes=descent.layout(self.inputs[0]), backend=descent.backend,
        )  # fmt: skip

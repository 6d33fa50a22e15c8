"""Maps that are the same for every image: zeros, grids and masks, repeated for as many images as there are."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import torch
from torch import Tensor

from zfkernels.geometry import Boxes
from zfkernels.network.kinds.base import Chunk, Kind, Scene, op_name, sizes_of
from zfkernels.network.kinds.signals import Descent, Rules, Signal
from zfkernels.network.maps import Maps
from zfkernels.network.recording import INPUT, Step
from zfkernels.network.tree import leaves
from zfkernels.windows import Windows

LIKE = {"new_zeros", "new_ones", "new_full", "zeros_like", "ones_like", "full_like"}  # read sizes alone


class FixedMaps(Kind):
    """Maps [N, C, H, W] made of constants and of the number of images: nothing that is hidden changes them."""

    kind = "constant maps"
    makes_new = True

    @classmethod
    def recognise(cls, step: Step, scene: Scene) -> Kind | None:
        sizes, like = sizes_of(step), op_name(step) in LIKE
        if step.name == INPUT or sizes is None or len(sizes) != 3:
            return None
        if not like and not all(isinstance(scene.kinds[name], cls) for name in step.inputs):
            return None
        if any(isinstance(leaf, Tensor) and leaf.is_meta for leaf in leaves((step.args, step.kwargs))):
            return None
        found = cls(step, scene, Maps.planar(sizes[0], (sizes[1], sizes[2])), step.inputs or (INPUT,))
        return found if step.inputs or _is_the_same(step) else None

    def touched(self, changed: Sequence[Boxes]) -> Boxes:
        if self._is_derived:
            return super().touched(changed)
        return Boxes(torch.zeros_like(changed[0].lo), torch.zeros_like(changed[0].hi))

    def read(self, outputs: Boxes) -> tuple[Boxes, ...]:
        if self._is_derived:
            return super().read(outputs)
        none = torch.zeros_like(outputs.lo)
        return tuple(Boxes(none, none) for _ in self.inputs)

    @property
    def _is_derived(self) -> bool:
        """Whether it is computed from other constant maps, whose boxes are empty."""
        return bool(self.step.inputs) and op_name(self.step) not in LIKE

    def run_on_windows(self, chunk: Chunk) -> Windows:
        assert self.maps is not None
        none = torch.empty((0, self.maps.channels), dtype=self.step.dtype, device=chunk.image.device)
        return chunk.layout(self.name).windows(none)

    def clean_inputs(self, rules: Rules) -> Collection[str]:
        return ()

    def send_down(self, signal: Signal, descent: Descent) -> Iterator[tuple[str, Signal]]:
        yield from ()


def _is_the_same(step: Step) -> bool:
    """Whether it makes the same maps for each image."""
    first, second = step.run({}, 2)
    return torch.equal(first, second)

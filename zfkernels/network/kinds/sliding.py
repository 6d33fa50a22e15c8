"""What convolutions and pooling have in common: a window that slides over maps [N, C, H, W]."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from zfkernels.geometry import Boxes, Sliding, inputs_read, outputs_touched
from zfkernels.network.kinds.base import Kind, Scene, sizes_of, source
from zfkernels.network.maps import Maps
from zfkernels.network.recording import Step


class SlidingKind(Kind):
    """A step whose outputs read a window of its one input each."""

    sliding: Sliding

    def touched(self, changed: Sequence[Boxes]) -> Boxes:
        assert self.maps is not None
        return outputs_touched(changed[0], self.sliding, self.maps.frame)

    def read(self, outputs: Boxes) -> tuple[Boxes, ...]:
        assert self.below[0] is not None
        return (inputs_read(outputs, self.sliding, self.below[0].frame),)

    @property
    def slides(self) -> Sliding:
        return self.sliding

    @property
    def needs_frames(self) -> bool:
        return True


def planar_step(step: Step, scene: Scene, argument: Any) -> tuple[Maps, Maps] | None:
    """Maps [N, C, H, W] that ``argument`` stands for, and those that ``step`` makes of them; None if it does not."""
    name, sizes = source(argument), sizes_of(step)
    below = scene.maps(name) if name else None
    if below is None or not below.is_planar or sizes is None or len(sizes) != 3:
        return None
    return below, Maps.planar(sizes[0], (sizes[1], sizes[2]))

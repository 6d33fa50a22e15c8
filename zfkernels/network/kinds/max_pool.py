"""Max-pooling."""

from __future__ import annotations

from zfkernels.geometry import Sliding
from zfkernels.network.kinds.base import Chunk, Kind, Scene, arguments, op_name, pair
from zfkernels.network.kinds.sliding import SlidingKind, planar_step
from zfkernels.network.maps import Maps
from zfkernels.network.recording import Step
from zfkernels.ops.ragged import window_max_pool2d
from zfkernels.ragged import Windows


class MaxPool(SlidingKind):
    """``F.max_pool2d``."""

    kind = "max-pooling"

    def __init__(self, step: Step, scene: Scene, maps: Maps, sliding: Sliding, ceil_mode: bool) -> None:
        super().__init__(step, scene, maps)
        self.sliding, self.ceil_mode = sliding, ceil_mode

    @classmethod
    def recognise(cls, step: Step, scene: Scene) -> Kind | None:
        if op_name(step) != "max_pool2d":
            return None
        bound = arguments(step)
        maps = planar_step(step, scene, bound["self"])
        if maps is None:
            return None
        kernel = pair(bound["kernel_size"])
        stride = pair(bound["stride"]) if bound["stride"] else kernel
        sliding = Sliding(kernel, stride, pair(bound["padding"]), pair(bound["dilation"]))
        return cls(step, scene, maps[1], sliding, bool(bound["ceil_mode"]))

    def run_on_windows(self, chunk: Chunk) -> Windows:
        (name,), s = self.inputs, self.sliding
        return window_max_pool2d(
            chunk.windows(name), chunk.frames(name), s.kernel, s.stride, s.padding, s.dilation,
            out_boxes=chunk.layout(self.name), ceil_mode=self.ceil_mode, backend=chunk.backend,
        )  # fmt: skip

"""Average pooling; adaptive average pooling where its windows are all of one size."""

from __future__ import annotations

from zfkernels.geometry import Pair, Sliding
from zfkernels.network.kinds.base import Chunk, Kind, Scene, arguments, op_name, pair
from zfkernels.network.kinds.sliding import SlidingKind, planar_step
from zfkernels.network.maps import Maps
from zfkernels.network.recording import Step
from zfkernels.ops.ragged import window_avg_pool2d
from zfkernels.ragged import Windows


class AvgPool(SlidingKind):
    """``F.avg_pool2d``, and ``F.adaptive_avg_pool2d`` to a size that divides the frame's."""

    kind = "average pooling"

    def __init__(
        self,
        step: Step,
        scene: Scene,
        maps: Maps,
        sliding: Sliding,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor: int | None = None,
    ) -> None:
        super().__init__(step, scene, maps)
        self.sliding, self.ceil_mode = sliding, ceil_mode
        self.count_include_pad, self.divisor = count_include_pad, divisor

    @classmethod
    def recognise(cls, step: Step, scene: Scene) -> Kind | None:
        if op_name(step) not in ("avg_pool2d", "adaptive_avg_pool2d"):
            return None
        bound = arguments(step)
        maps = planar_step(step, scene, bound["self"])
        if maps is None:
            return None
        if "output_size" in bound:
            kernel = _even(maps[0].frame, maps[1].frame)
            return None if kernel is None else cls(step, scene, maps[1], Sliding(kernel, kernel))
        kernel = pair(bound["kernel_size"])
        stride = pair(bound["stride"]) if bound["stride"] else kernel
        sliding = Sliding(kernel, stride, pair(bound["padding"]))
        options = bool(bound["ceil_mode"]), bool(bound["count_include_pad"]), bound["divisor_override"]
        return cls(step, scene, maps[1], sliding, *options)

    def run_on_windows(self, chunk: Chunk) -> Windows:
        (name,), s = self.inputs, self.sliding
        if s == Sliding((1, 1)) and self.divisor is None:
            return chunk.windows(name)
        return window_avg_pool2d(
            chunk.windows(name), chunk.frames(name), s.kernel, s.stride, s.padding, ceil_mode=self.ceil_mode,
            count_include_pad=self.count_include_pad, divisor_override=self.divisor,
            out_boxes=chunk.layout(self.name), backend=chunk.backend,
        )  # fmt: skip


def _even(frame: Pair, output: Pair) -> Pair | None:
    """The windows of adaptive pooling from ``frame`` to ``output``, where they are all of one size."""
    if any(frame[axis] % output[axis] for axis in (0, 1)):
        return None
    return frame[0] // output[0], frame[1] // output[1]

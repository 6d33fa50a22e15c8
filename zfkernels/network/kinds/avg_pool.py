"""Average pooling; adaptive average pooling where its windows are all of one size."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from zfkernels.geometry import Pair, Sliding
from zfkernels.network.kinds.base import Chunk, Kind, Scene, arguments, op_name, pair
from zfkernels.network.kinds.signals import Descent, Rules, Signal
from zfkernels.network.kinds.sliding import SlidingKind, planar_step
from zfkernels.network.maps import Maps
from zfkernels.network.recording import Step
from zfkernels.ops import unpool_relu_conv_transpose2d, window_avg_pool2d
from zfkernels.windows import Windows, cell_places


class AvgPool(SlidingKind):
    """``F.avg_pool2d``, and ``F.adaptive_avg_pool2d`` to a size that divides the frame's."""

    kind = "average pooling"
    keeps_sign = True

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
        if self._is_identity:
            return chunk.windows(name)
        return window_avg_pool2d(
            chunk.windows(name), chunk.frames(name), s.kernel, s.stride, s.padding, ceil_mode=self.ceil_mode,
            count_include_pad=self.count_include_pad, divisor_override=self.divisor,
            out_boxes=chunk.layout(self.name), backend=chunk.backend,
        )  # fmt: skip

    def clean_inputs(self, rules: Rules) -> Collection[str]:
        return ()

    def send_down(self, signal: Signal, descent: Descent) -> Iterator[tuple[str, Signal]]:
        assert isinstance(signal, Windows)
        assert self.below[0] is not None
        (name,), s = self.inputs, self.sliding
        if self._is_identity:
            yield name, signal
            return
        shares = replace(signal, values=signal.values * self._share(signal)[:, None])
        channels, layout = signal.values.shape[1], descent.layout(name)
        reach = [(out - 1) * s.stride[a] + s.kernel[a] - 2 * s.padding[a] for a, out in enumerate(signal.frame)]
        # Windows may end behind the frame (ceil_mode), those of a transposed convolution may not.
        frame = max(layout.frame[0], reach[0]), max(layout.frame[1], reach[1])
        below = unpool_relu_conv_transpose2d(
            shares, None, signal.values.new_ones((channels, 1, *s.kernel)), stride=s.stride, padding=s.padding,
            groups=channels, output_size=frame, out_boxes=replace(layout, frame=frame), rectify=False,
            backend=descent.backend,
        )  # fmt: skip
        yield name, layout.windows(below.values)

    @property
    def _is_identity(self) -> bool:
        return self.sliding == Sliding((1, 1)) and self.divisor is None

    def _share(self, signal: Windows) -> Tensor:
        """[cells]: the reciprocal of the count that each average is divided by."""
        assert self.below[0] is not None
        if self.divisor is not None:
            return signal.values.new_full((len(signal.values),), 1 / self.divisor)
        frame, s = self.below[0].frame, self.sliding
        counts = signal.boxes.new_ones(len(signal.values), dtype=torch.int64)
        for axis, place in enumerate(cell_places(signal.boxes, signal.offsets, signal.layout.owner)):
            start = place * s.stride[axis] - s.padding[axis]
            if self.count_include_pad:
                counts *= (start + s.kernel[axis]).clamp(max=frame[axis] + s.padding[axis]) - start
            else:
                counts *= (start + s.kernel[axis]).clamp(max=frame[axis]) - start.clamp(min=0)
        return 1 / counts.to(signal.values.dtype)


def _even(frame: Pair, output: Pair) -> Pair | None:
    """The windows of adaptive pooling from ``frame`` to ``output``, where they are all of one size."""
    if any(frame[axis] % output[axis] for axis in (0, 1)):
        return None
    return frame[0] // output[0], frame[1] // output[1]

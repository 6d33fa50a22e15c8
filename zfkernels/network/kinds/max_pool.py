"""Max-pooling."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from torch import Tensor

from zfkernels.geometry import Sliding
from zfkernels.network.kinds.base import Chunk, Kind, Scene, arguments, op_name, pair
from zfkernels.network.kinds.signals import Descent, Pooled, Rules, Signal
from zfkernels.network.kinds.sliding import SlidingKind, planar_step
from zfkernels.network.maps import Maps
from zfkernels.network.recording import Step
from zfkernels.ops import max_pool2d_with_switches, window_max_pool2d
from zfkernels.windows import Windows


class MaxPool(SlidingKind):
    """``F.max_pool2d``."""

    kind = "max-pooling"
    keeps_sign = True

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

    def run_with_switches(self, values: Mapping[str, Any], batch: int, backend: str | None) -> tuple[Any, Tensor]:
        s = self.sliding
        return max_pool2d_with_switches(
            values[self.inputs[0]], s.kernel, s.stride, s.padding, s.dilation, ceil_mode=self.ceil_mode,
            backend=backend,
        )  # fmt: skip

    def clean_inputs(self, rules: Rules) -> Collection[str]:
        return ()

    def send_down(self, signal: Signal, descent: Descent) -> Iterator[tuple[str, Signal]]:
        assert isinstance(signal, Windows)
        assert self.below[0] is not None
        s = self.sliding
        switches = descent.switches(self.name)
        yield self.inputs[0], Pooled(signal, switches, s.kernel, s.stride, s.padding, s.dilation, self.below[0].frame)

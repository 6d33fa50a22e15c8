"""Means, sums and maxima over the whole frame: windows end here, one vector for each position comes out."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from torch import Tensor

from zfkernels.network.kinds.base import Chunk, Kind, Scene, arguments, op_name, pair, sizes_of, source
from zfkernels.network.kinds.signals import Descent, Rules, Signal
from zfkernels.network.maps import Maps
from zfkernels.network.recording import Step
from zfkernels.ops import window_reduce

HOW = {"mean": "sum", "sum": "sum", "amax": "max"}


class FrameReduction(Kind):
    """A mean, sum or maximum over all cells of the frame, however it is written."""

    kind = "over the frame"
    keeps_sign = True

    def __init__(self, step: Step, scene: Scene, how: str, divisor: int, name: str) -> None:
        super().__init__(step, scene, None, (name,))
        self.how, self.divisor = how, divisor

    @classmethod
    def recognise(cls, step: Step, scene: Scene) -> Kind | None:
        name, bound = op_name(step), arguments(step)
        below = source(bound.get("self"))
        maps = scene.maps(below) if below is not None else None
        if below is None or maps is None or sizes_of(step) is None or len(step.inputs) != 1:
            return None
        if scene.step(below).dtype != step.dtype:
            return None
        cells = maps.frame[0] * maps.frame[1]
        pooled = name == "adaptive_avg_pool2d" and maps.is_planar and list(bound["output_size"]) == [1, 1]
        if pooled or (name == "avg_pool2d" and maps.is_planar and _is_whole(bound, maps)):
            return cls(step, scene, "sum", cells, below)
        if name not in HOW or bound.get("dim") is None:
            return None
        dims = bound["dim"] if isinstance(bound["dim"], (list, tuple)) else [bound["dim"]]
        if {dim % (len(maps.sizes) + 1) for dim in dims} != set(maps.space):
            return None
        return cls(step, scene, HOW[name], cells if name == "mean" else 1, below)

    def run_on_windows(self, chunk: Chunk) -> Tensor:
        (name,) = self.inputs
        total = window_reduce(chunk.windows(name), chunk.frames(name), self.how, backend=chunk.backend)
        assert self.sizes is not None
        return (total / self.divisor if self.divisor > 1 else total).view(-1, *self.sizes)

    def clean_inputs(self, rules: Rules) -> Collection[str]:
        return () if self.how == "sum" else self.inputs

    def send_down(self, signal: Signal, descent: Descent) -> Iterator[tuple[str, Signal]]:
        if self.how != "sum":
            yield from super().send_down(signal, descent)
            return
        (name,), (maps,) = self.inputs, self.below
        assert isinstance(signal, Tensor)
        assert maps is not None
        each = signal.reshape(len(signal), 1, maps.channels) / self.divisor
        cells = each.expand(-1, maps.frame[0] * maps.frame[1], -1).reshape(-1, maps.channels)
        yield name, descent.whole(name, self.name).windows(cells)

    @property
    def needs_frames(self) -> bool:
        return True


def _is_whole(bound: dict, maps: Maps) -> bool:
    """Whether average pooling has one window, the whole frame."""
    plain = pair(bound["padding"]) == (0, 0) and bound["divisor_override"] is None
    return plain and pair(bound["kernel_size"]) == maps.frame

"""Steps that only give the same numbers other axes: views, permutations, dropout in eval mode."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from torch import Tensor

from zfkernels.network.kinds.base import Chunk, Kind, Scene, arguments, op_name, sizes_of
from zfkernels.network.kinds.cellwise import Cellwise
from zfkernels.network.kinds.signals import Descent, Rules, Signal, as_signal
from zfkernels.network.maps import Maps
from zfkernels.network.recording import Step
from zfkernels.windows import Windows

SAME = {
    "clone", "contiguous", "detach", "alias", "lift_fresh", "dropout", "feature_dropout", "alpha_dropout",
    "feature_alpha_dropout", "to",
}  # fmt: skip
RESHAPES = {"view", "reshape", "_unsafe_view", "flatten", "unflatten", "unsqueeze", "squeeze", "view_as", "reshape_as"}
ORDERS = {"permute", "transpose", "swapaxes", "swapdims", "movedim"}


class Reshaping(Kind):
    """The cells of the windows stay as they are."""

    kind = "other axes"
    keeps_sign = True
    moves = False
    stops = False  # no signal goes down through what the model detaches (also by ``.data``)

    @classmethod
    def recognise(cls, step: Step, scene: Scene) -> Kind | None:
        name, sizes = op_name(step), sizes_of(step)
        below = scene.maps(step.inputs[0]) if len(step.inputs) == 1 else None
        if below is None or sizes is None:
            return None
        if name in SAME:
            before = scene.step(step.inputs[0])
            if (below.sizes, before.dtype) != (sizes, step.dtype):
                return None
            same = cls(step, scene, below)
            same.is_identity, same.stops = True, name == "detach"
            return same
        if name in RESHAPES:
            made = cls(step, scene, reshaped(below, sizes))
            made.on_windows = (
                made.maps is not None
            )  # else channels and cells are mixed, as a classifier's flattening does
            return made
        return None

    def run(self, values: Mapping[str, Any], batch: int) -> Any:
        value = values[self.inputs[0]]
        return value if op_name(self.step) in SAME else value.reshape(batch, *self.sizes or ())

    def run_on_windows(self, chunk: Chunk) -> Windows:
        return chunk.windows(self.inputs[0])

    def clean_inputs(self, rules: Rules) -> Collection[str]:
        return ()

    def send_down(self, signal: Signal, descent: Descent) -> Iterator[tuple[str, Signal]]:
        (name,), (below,) = self.inputs, self.below
        assert below is not None
        if self.stops:
            return
        if isinstance(signal, Tensor):
            yield name, as_signal(signal.reshape(len(signal), *below.sizes), name, below, self.name, descent)
        else:
            yield name, signal


class Reordering(Cellwise):
    """Axes in another order."""

    kind = "axes in another order"
    keeps_sign = True

    @classmethod
    def recognise(cls, step: Step, scene: Scene) -> Kind | None:
        sizes = sizes_of(step)
        below = scene.maps(step.inputs[0]) if len(step.inputs) == 1 else None
        order = _order(step, len(below.sizes) + 1) if below is not None and op_name(step) in ORDERS else None
        if below is None or sizes is None or order is None or order[0] != 0:
            return None
        rows, columns = order.index(below.rows), order.index(below.columns)
        if rows > columns:  # the frame itself is transposed
            return None
        made = cls(step, scene, Maps(sizes, rows, columns, below.frame))
        channels = [axis for axis in order if axis in below.channel_axes]
        made.stays = channels == sorted(channels)
        made.moves = not made.stays
        return made

    stays = False  # the order of the channels

    def run_on_windows(self, chunk: Chunk) -> Windows:
        return chunk.windows(self.inputs[0]) if self.stays else super().run_on_windows(chunk)

    def send_down(self, signal: Signal, descent: Descent) -> Iterator[tuple[str, Signal]]:
        if self.stays:
            yield self.inputs[0], signal
        else:
            yield from super().send_down(signal, descent)


def reshaped(below: Maps, sizes: tuple[int, ...]) -> Maps | None:
    """Where a value holds its maps after its axes behind the first are merged and split to ``sizes``.

    Rows and columns may be merged to one axis of cells, and taken apart again; with channels they may not.
    """
    found: dict[int, int] = {}  # axis of cells before → after
    start, end = 0, 0
    while start < len(below.sizes) or end < len(sizes):
        first, last = start, end
        before = after = 1
        while before != after or start == first or end == last:
            if (before <= after and start < len(below.sizes)) or end >= len(sizes):
                if start >= len(below.sizes):
                    break
                before *= below.sizes[start]
                start += 1
            else:
                after *= sizes[end]
                end += 1
        while start < len(below.sizes) and below.sizes[start] == 1:
            start += 1
        while end < len(sizes) and sizes[end] == 1:
            end += 1
        olds = [axis for axis in range(first + 1, start + 1) if below.sizes[axis - 1] > 1 or axis in below.space]
        news = [axis for axis in range(last + 1, end + 1) if sizes[axis - 1] > 1]
        if not set(olds) & set(below.space):
            continue
        if olds == list(below.space) and len(olds) == 2 and len(news) == 1:
            found = dict.fromkeys(olds, news[0])
        elif below.is_merged and len(olds) == 1 and tuple(sizes[axis - 1] for axis in news) == below.frame:
            return Maps(sizes, news[0], news[1], below.frame)
        elif len(olds) == len(news) == 1:
            found[olds[0]] = news[0]
        else:
            return None
    if not set(below.space) <= set(found):
        return None
    return Maps(sizes, found[below.rows], found[below.columns], below.frame)


def _order(step: Step, rank: int) -> list[int] | None:
    """For each axis of the value, the axis that it was."""
    bound, order = arguments(step), list(range(rank))
    if "dims" in bound:
        return [dim % rank for dim in bound["dims"]]
    names = [name for name in ("dim0", "axis0") if name in bound]
    if names:
        one, other = (bound[names[0][:-1] + digit] % rank for digit in "01")
        order[one], order[other] = order[other], order[one]
        return order
    return None

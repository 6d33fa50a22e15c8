"""Steps that only give the same numbers other axes: views, permutations, dropout in eval mode; pieces of a split."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

from zfkernels.network.kinds.base import Chunk, Kind, Scene, arguments, op_name, sizes_of
from zfkernels.network.kinds.cellwise import Cellwise
from zfkernels.network.maps import Maps
from zfkernels.network.recording import Step
from zfkernels.ragged import Windows

SAME = {
    "clone", "contiguous", "detach", "alias", "lift_fresh", "dropout", "feature_dropout", "alpha_dropout",
    "feature_alpha_dropout", "to",
}  # fmt: skip
RESHAPES = {"view", "reshape", "_unsafe_view", "flatten", "unflatten", "unsqueeze", "squeeze", "view_as", "reshape_as"}
ORDERS = {"permute", "transpose", "swapaxes", "swapdims", "movedim"}
SPLITS = {"chunk", "split", "split_with_sizes", "unbind", "tensor_split", "unsafe_split", "unsafe_chunk"}


class Reshaping(Kind):
    """The cells of the windows stay as they are."""

    kind = "other axes"

    @classmethod
    def recognise(cls, step: Step, scene: Scene) -> Kind | None:
        name, sizes = op_name(step), sizes_of(step)
        below = scene.maps(step.inputs[0]) if len(step.inputs) == 1 else None
        if below is None or sizes is None:
            return None
        if name in SAME:
            before = scene.step(step.inputs[0])
            return cls(step, scene, below) if (below.sizes, before.dtype) == (sizes, step.dtype) else None
        if name in RESHAPES:
            maps = reshaped(below, sizes)
            return None if maps is None else cls(step, scene, maps)
        return None

    def run_on_windows(self, chunk: Chunk) -> Windows:
        return chunk.windows(self.inputs[0])


class Reordering(Cellwise):
    """Axes in another order."""

    kind = "axes in another order"

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
        return made

    stays = False  # the order of the channels

    def run_on_windows(self, chunk: Chunk) -> Windows:
        return chunk.windows(self.inputs[0]) if self.stays else super().run_on_windows(chunk)


class Piece(Cellwise):
    """One of the parts that a value's channels were split into."""

    kind = "some of the channels"

    def __init__(self, step: Step, scene: Scene, maps: Maps, split: Step) -> None:
        super().__init__(step, scene, maps, split.inputs)
        self.split, self.index = split, step.args[1]

    @classmethod
    def recognise(cls, step: Step, scene: Scene) -> Kind | None:
        if step.op is not operator.getitem or not isinstance(step.args[1], int):
            return None
        split, sizes = scene.step(step.inputs[0]), sizes_of(step)
        if op_name(split) not in SPLITS or len(split.inputs) != 1 or sizes is None:
            return None
        below = scene.maps(split.inputs[0])
        if below is None:
            return None
        axis = arguments(split)["dim"] % (len(below.sizes) + 1)
        if axis not in below.channel_axes:
            return None
        gone = len(below.sizes) - len(sizes)  # unbind leaves the axis out
        rows, columns = (place - (gone and axis < place) for place in (below.rows, below.columns))
        return cls(step, scene, Maps(sizes, rows, columns, below.frame), split)

    def run(self, values: Mapping[str, Any], batch: int) -> Any:
        return self.split.run(values, batch)[self.index]

    def on_cells(self, values: Mapping[str, Any], chunk: Any, layout: Any) -> Any:
        return self.run(values, 1)


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

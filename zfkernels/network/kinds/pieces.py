"""One of several results of an operation on channels; channels repeated by broadcasting."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

from zfkernels.network.kinds.base import Kind, Scene, arguments, op_name, sizes_of
from zfkernels.network.kinds.cellwise import Cellwise
from zfkernels.network.kinds.linear import is_affine
from zfkernels.network.maps import Maps
from zfkernels.network.recording import Step

SEVERAL = {
    "chunk", "split", "split_with_sizes", "unbind", "tensor_split", "unsafe_split", "unsafe_chunk", "max", "min",
    "topk", "sort", "kthvalue", "median", "mode", "var_mean", "std_mean",
}  # fmt: skip


class Piece(Cellwise):
    """One of the results of a split, a maximum, a sort, … along channels."""

    kind = "one of several results"

    def __init__(self, step: Step, scene: Scene, maps: Maps, whole: Step) -> None:
        super().__init__(step, scene, maps, whole.inputs)
        self.whole, self.index = whole, step.args[1]

    @classmethod
    def recognise(cls, step: Step, scene: Scene) -> Kind | None:
        if step.op is not operator.getitem or not isinstance(step.args[1], int):
            return None
        whole, sizes = scene.step(step.inputs[0]), sizes_of(step)
        below = scene.maps(whole.inputs[0]) if len(whole.inputs) == 1 else None
        dims = arguments(whole).get("dim")
        if op_name(whole) not in SEVERAL or sizes is None or below is None or dims is None:
            return None
        axes = {dim % (len(below.sizes) + 1) for dim in ((dims,) if isinstance(dims, int) else dims)}
        if not axes <= set(below.channel_axes):
            return None
        gone = axes if len(sizes) < len(below.sizes) else set()
        rows, columns = (place - sum(axis < place for axis in gone) for place in (below.rows, below.columns))
        return cls(step, scene, Maps(sizes, rows, columns, below.frame), whole)

    def run(self, values: Mapping[str, Any], batch: int) -> Any:
        return self.whole.run(values, batch)[self.index]

    def on_cells(self, values: Mapping[str, Any], chunk: Any, layout: Any) -> Any:
        return self.run(values, 1)

    @property
    def is_affine(self) -> bool:
        return is_affine(self.whole)


class Expansion(Cellwise):
    """``expand`` and ``expand_as`` along channels."""

    kind = "channels repeated"

    @classmethod
    def recognise(cls, step: Step, scene: Scene) -> Kind | None:
        sizes = sizes_of(step)
        if op_name(step) not in ("expand", "expand_as") or sizes is None or not step.inputs:
            return None
        name = step.args[0].name
        below = scene.maps(name)
        if below is None or len(below.sizes) != len(sizes):
            return None
        if any(below.sizes[axis - 1] != sizes[axis - 1] for axis in below.space):
            return None
        return cls(step, scene, Maps(sizes, below.rows, below.columns, below.frame), (name,))

    def run(self, values: Mapping[str, Any], batch: int) -> Any:
        return values[self.inputs[0]].expand(batch, *self.sizes or ())

    def on_cells(self, values: Mapping[str, Any], chunk: Any, layout: Any) -> Any:
        value = values[self.inputs[0]]
        assert self.maps is not None
        sizes = [value.shape[a] if a in self.maps.space else size for a, size in enumerate(self.maps.sizes, 1)]
        return value.expand(1, *sizes)

"""Functions of numbers, on one map or several; their constants may differ from place to place (position maps)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from zfkernels.network.kinds.base import Chunk, Kind, Scene, aligned, op_name, sizes_of
from zfkernels.network.kinds.cellwise import Cellwise
from zfkernels.network.kinds.signals import Descent, Signal, changed
from zfkernels.network.maps import Maps
from zfkernels.network.recording import Ref, Sized, Step
from zfkernels.network.tree import leaves, map_leaves
from zfkernels.windows import Layout, Windows

ARITHMETIC = {"add", "sub", "mul", "div"}  # they always make a tensor of their own
UNTAGGED = {"hardswish", "log_sigmoid", "rsub", "_to_copy", "where"}  # pointwise, though torch does not say so


class Pointwise(Cellwise):
    """Operations that torch calls pointwise. One with a gate of one cell for each image changes the whole frame."""

    kind = "pointwise"

    def __init__(self, step: Step, scene: Scene, maps: Maps, inputs: tuple[str, ...] | None = None) -> None:
        super().__init__(step, scene, maps, inputs)
        self.relu = False
        self.keeps_sign = op_name(step) == "add" and not step.kwargs
        self.on_windows = None not in self.below
        self.places: dict[str, tuple[Maps, Tensor]] = {}  # constants that differ from place to place: [1, C, H, W]
        args, kwargs = (map_leaves(self._placed, part) for part in (step.args, step.kwargs))
        self.with_places = replace(step, args=args, kwargs=kwargs)
        constants = [leaf for leaf in leaves((step.args, step.kwargs)) if isinstance(leaf, Tensor) and leaf.dim()]
        self.is_flat = not constants and all(below == maps for below in self.below)

    @classmethod
    def recognise(cls, step: Step, scene: Scene) -> Kind | None:
        maps = pointwise_maps(step, scene)
        return None if maps is None else cls(step, scene, maps)

    def followed_by(self, other: Kind) -> Kind | None:
        if other.rectifies and not self.relu and op_name(self.step) in ARITHMETIC:
            return self.joined(other, relu=True)
        return None

    def run(self, values: Mapping[str, Any], batch: int) -> Any:
        value = super().run(values, batch)
        return value.relu_() if self.relu else value

    def run_on_windows(self, chunk: Chunk) -> Windows:
        if not self.is_flat:
            found = super().run_on_windows(chunk)
            if self.relu:
                found.values.relu_()
            return found
        layout = chunk.layout(self.name)
        return layout.windows(self.run({name: aligned(chunk, name, layout).values for name in self.inputs}, 1))

    def send_down(self, signal: Signal, descent: Descent) -> Iterator[tuple[str, Signal]]:
        if self.relu:
            signal = changed(signal, torch.relu)
        if self.is_flat and self.keeps_sign and len(self.inputs) == 2:
            yield from ((name, signal) for name in self.inputs)
        else:
            yield from super().send_down(signal, descent)

    def on_cells(self, values: Mapping[str, Any], chunk: Chunk | Descent, layout: Layout) -> Tensor:
        if self.places:
            first = replace(layout, image=torch.zeros_like(layout.image), images=1)
            placed = {name: m.spread(chunk.gather([], c, first).values) for name, (m, c) in self.places.items()}
            values = {**values, **placed}
        return self.with_places.run(values, 1)

    def _placed(self, leaf: Any) -> Any:
        """Stands for a constant that differs from place to place; any other argument as it is."""
        assert self.maps is not None
        maps = self.maps
        rank = len(maps.sizes) + 1
        if not isinstance(leaf, Tensor) or not _differs(leaf, maps):
            return leaf
        sizes = [1] * (rank - leaf.dim()) + list(leaf.shape)
        for axis in maps.space:
            sizes[axis] = maps.sizes[axis - 1]
        own = Maps(tuple(sizes[1:]), maps.rows, maps.columns, maps.frame)
        name = f"constant {len(self.places)}"
        self.places[name] = own, own.frames(leaf.detach().expand(sizes))
        return Ref(name)


def pointwise_maps(step: Step, scene: Scene) -> Maps | None:
    """Where the value of a pointwise operation holds maps, None if it is none or makes none of maps."""
    op, sizes = step.op, sizes_of(step)
    tagged = isinstance(op, torch._ops.OpOverload) and torch.Tag.pointwise in op.tags
    if sizes is None or not (tagged or op_name(step) in UNTAGGED):
        return None
    rank, found = len(sizes) + 1, None
    for leaf in leaves((step.args, step.kwargs)):
        if isinstance(leaf, Sized) or (isinstance(leaf, Tensor) and not _for_one_image(leaf, rank)):
            return None
        if not isinstance(leaf, Ref):
            continue
        maps, below = scene.maps(leaf.name), sizes_of(scene.step(leaf.name))
        if below is None or len(below) + 1 != rank:
            return None
        if maps is None:
            continue
        here = Maps(sizes, maps.rows, maps.columns, maps.frame)
        if (found is not None and found != here) or any(sizes[a - 1] != maps.sizes[a - 1] for a in maps.space):
            return None
        found = here
    return found


def _for_one_image(constant: Tensor, rank: int) -> bool:
    return constant.dim() < rank or (constant.dim() == rank and constant.shape[0] == 1)


def _differs(constant: Tensor, maps: Maps) -> bool:
    """Whether a constant is not the same all over the frame."""
    behind = len(maps.sizes) + 1 - constant.dim()
    return any(axis >= behind and constant.shape[axis - behind] > 1 for axis in maps.space)

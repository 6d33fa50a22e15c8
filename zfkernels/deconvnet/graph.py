"""The steps that signals go down through from some layers, and the boxes that they read on their way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from zfkernels.geometry import Boxes, union
from zfkernels.network import INPUT, Recording, Ref, Sized, Step
from zfkernels.network.kinds import Chain, Kind, Rules, registered_kinds, usable
from zfkernels.network.program import Program
from zfkernels.network.recording import readers_of
from zfkernels.network.tree import leaves

KEPT = 8  # graphs of one recording, the latest


@dataclass(frozen=True)
class Graph:
    """What some layers of a network depend on, a step for each place where signals stop.

    Attributes:
        recording: the network.
        kinds: the steps by name, in order; a convolution with the scale and the ReLU behind it is one.
        readers: names of the steps that read each step.
        targets: names of the steps that are the layers.
        clean: names of the steps whose values on the clean images are needed on the way down.
    """

    recording: Recording
    kinds: dict[str, Kind]
    readers: Mapping[str, tuple[str, ...]]
    targets: tuple[str, ...]
    clean: frozenset[str]

    def boxes(self, entries: Mapping[str, tuple[Tensor, Boxes]], count: int) -> dict[str, Boxes]:
        """For each step the box that each of ``count`` units depends on; an empty one where it does not.

        Args:
            entries: by the targets' names: rows int64 [k] of the units that enter there, and their boxes.
            count: number of units.
        """
        known: dict[str, Boxes] = {}
        for name, (rows, boxes) in entries.items():
            lo, hi = torch.zeros(2, count, 2, dtype=torch.int64)
            known[name] = Boxes(lo.index_copy_(0, rows, boxes.lo), hi.index_copy_(0, rows, boxes.hi))
        for kind in reversed(self.kinds.values()):
            if kind.name not in known:
                continue
            for name, box in zip(kind.inputs, kind.read(known[kind.name]), strict=True):
                known[name] = union(known[name], box) if name in known else box
        return known


def graph_of(recording: Recording, targets: tuple[str, ...], rules: Rules) -> Graph:
    """The graph below some steps of a recording; it is kept with it.

    Raises:
        ValueError: a target that is not one tensor [N, ...].
    """
    known = recording.memo.setdefault("descents", {})
    key = targets, rules, registered_kinds()
    if key not in known:
        for old in list(known)[: len(known) - KEPT + 1]:
            known.pop(old, None)
        known[key] = _made(recording, targets, rules)
    return known[key]


def _made(recording: Recording, targets: tuple[str, ...], rules: Rules) -> Graph:
    for name in targets:
        if not is_of_images(recording.by_name[name]):
            raise ValueError(
                f"DeconvNet: expected a layer that is one tensor [N, ...] for N images, got step {name!r} of shape "
                f"{recording.by_name[name].shape}"
            )
    steps = tuple(map(_usable, recording.needed_for(targets)))
    part = replace(recording, steps=steps, outputs=[Ref(name) for name in targets], layers={})
    program = Program(part, made=recording.memo.setdefault("made", {}))
    kinds: dict[str, Kind] = {}
    inner: dict[str, Kind] = {}
    for kind in program.kinds.values():
        if not is_of_images(recording.by_name[kind.name]):
            inner[kind.name] = kind
        elif inner.keys() & set(kind.inputs):
            kinds[kind.name] = _chained(kind, inner, program, rules)
        else:
            kinds[kind.name] = kind
    clean = {name for kind in kinds.values() for name in kind.clean_inputs(rules)}
    return Graph(recording, kinds, readers_of(tuple(kinds.values())), targets, frozenset(clean))


def _chained(last: Kind, inner: Mapping[str, Kind], program: Program, rules: Rules) -> Chain:
    """A step together with those between it and the nearest values that have an axis of images."""
    needed, inputs = {last.name}, dict[str, None]()
    for kind in reversed(program.kinds.values()):
        if kind.name in needed:
            needed.update(name for name in kind.inputs if name in inner)
            inputs.update(dict.fromkeys(name for name in kind.inputs if name not in inner))
    chain = tuple(kind for kind in program.kinds.values() if kind.name in needed)
    return Chain(chain, tuple(inputs), program.scene, rules)


def is_of_images(step: Step) -> bool:
    """Whether a step's value is one tensor [N, ...]."""
    return step.name == INPUT or (step.dtype is not None and step.shape[:1] == (Sized(1, 0),))


def _usable(step: Step) -> Step:
    """A step whose constants autograd may keep: none of them was made in inference mode."""
    constants: list[Any] = [leaf for leaf in leaves((step.args, step.kwargs)) if isinstance(leaf, Tensor)]
    if not any(constant.is_inference() for constant in constants):
        return step
    return replace(step, args=usable(step.args), kwargs=usable(step.kwargs))

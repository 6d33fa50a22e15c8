"""A recorded network as kinds of steps, in fewer steps than were recorded: what cannot be told apart is one step."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from zfkernels.network.kinds import Kind, Scene, op_name, recognise
from zfkernels.network.recording import INPUT, Recording, Sized, readers_of

FACTORIES = {"new_zeros", "new_ones", "new_full", "new_empty", "zeros_like", "ones_like", "full_like"}


class Program:
    """What the outputs of a recording, and some of its other steps, are computed by.

    A convolution with the scale and the ReLU behind it is one step. A step made of several has the name of the last of
    them, so that those that read it need not know.

    Args:
        recording: the network.
        keep: names of steps whose own value is wanted.
        outputs: names of the steps that are wanted as outputs; None: all that the network's output is made of.
        fold: make one step of several.
        forwards: also where that leaves no way back down through them.
        made: what programs of one model for several sizes of images share.

    Attributes:
        recording: the network.
        scene: of its steps, each by itself.
        kinds: the steps by name, in order.
        outputs: names of the steps that are wanted as outputs.
    """

    def __init__(
        self,
        recording: Recording,
        keep: Collection[str] = (),
        *,
        outputs: Collection[str] | None = None,
        fold: bool = True,
        forwards: bool = False,
        made: dict[Any, Any] | None = None,
    ) -> None:
        self.recording = recording
        self.outputs = recording.output_names if outputs is None else tuple(outputs)
        self.kept = {*self.outputs, *keep}
        self.scene = scene = Scene(recording)
        for step in recording.steps:
            recognise(step, scene)
        self.kinds = _needed(scene.kinds, {*self.kept, INPUT})
        if fold:
            self._fold(forwards)
        for kind in self.kinds.values():
            kind.share({} if made is None else made)

    def _fold(self, forwards: bool) -> None:
        readers, done = self.readers, dict[str, Kind]()
        for kind in self.kinds.values():
            below = done.get(kind.inputs[0]) if len(kind.inputs) == 1 else None
            if below is not None and readers[below.name] == (kind.name,) and below.name not in self.kept:
                both = below.followed_by(kind) or (below.activated_by(kind) if forwards else None)
                if both is not None:
                    del done[below.name]
                    kind = both
            done[kind.name] = kind
        self.kinds = done

    @property
    def readers(self) -> dict[str, tuple[str, ...]]:
        """Names of the steps that read each step."""
        return readers_of(tuple(self.kinds.values()))

    @cached_property
    def mixing(self) -> str | None:
        """A step that puts the images of a batch together (a mean over all of them), None if no shape shows one."""
        fixed: set[str] = set()  # steps that read no number of an image
        for kind in self.kinds.values():
            made = (
                op_name(kind.step) in FACTORIES or fixed.issuperset(kind.inputs) or fixed.issuperset(kind.step.inputs)
            )
            if kind.name != INPUT and made:
                fixed.add(kind.name)
            elif kind.step.dtype is not None and not any(isinstance(size, Sized) for size in kind.step.shape):
                return kind.name
        return None

    def run(self, images: Tensor, keep: Iterable[str]) -> dict[str, Any]:
        """Runs the network once and returns the values of the steps named in ``keep``.

        Args:
            images: [N, C, H, W].
            keep: names of steps; values that are read no more are freed.
        """
        values: dict[str, Any] = {INPUT: images}
        run_steps(tuple(self.kinds.values()), values, len(images), set(keep))
        return values


@torch.no_grad()
def run_steps(kinds: tuple[Kind, ...], values: dict[str, Any], batch: int, keep: Collection[str]) -> None:
    """Runs steps on whole values, in order; adds theirs to ``values``, and removes those that are read no more.

    Args:
        kinds: the steps; each reads ``values`` or steps before it.
        values: by name.
        batch: number of images, or of positions.
        keep: names of values that stay.
    """
    last = {name: index for index, kind in enumerate(kinds) for name in (kind.name, *kind.inputs)}
    for index, kind in enumerate(kinds):
        values[kind.name] = kind.run(values, batch)
        for name in {kind.name, *kind.inputs}:
            if last[name] <= index and name not in keep:
                values.pop(name, None)


def _needed(kinds: dict[str, Kind], names: set[str]) -> dict[str, Kind]:
    needed = set(names)
    for kind in reversed(kinds.values()):
        if kind.name in needed:
            needed.update(kind.inputs)
    return {name: kind for name, kind in kinds.items() if name in needed}

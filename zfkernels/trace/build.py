"""From a recording to the steps that the methods know, with a few operations taken together."""

from __future__ import annotations

import operator
from dataclasses import replace
from typing import Any

import torch

from zfkernels.network import INPUT, Recording, Ref, Sized
from zfkernels.network import Step as Recorded
from zfkernels.network.tree import leaves
from zfkernels.trace.classify import Role, Source, channels_of, classify, layout_of, shuffled
from zfkernels.trace.steps import Channels, Replay, Step, together

OUTPUTS = "outputs"


def build(recording: Recording) -> tuple[tuple[Step, ...], str]:
    """The steps of a recorded network, and the name of the one that is its output: of several tensors their tuple."""
    return _Builder(recording).build()


class _Builder:
    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self.steps: dict[str, Step] = {}
        self.labels = recording.labels
        named = (leaf.name for value in (recording.outputs, recording.layers) for leaf in leaves(value)
                 if isinstance(leaf, Ref))  # fmt: skip
        self.named = set(named)
        self.known: dict[str, Source] = {}

    def build(self) -> tuple[tuple[Step, ...], str]:
        taken = self._taken_together()
        inside = {step.name for steps in taken.values() for step in steps[:-1]}
        for step in self.recording.steps:
            if step.name in taken:
                self._together(taken[step.name])
            elif step.name not in inside:
                self._add(step, classify(step, self.known))
        outputs = self.recording.output_names
        if isinstance(self.recording.outputs, Ref):
            return self._alive({outputs[0]}), outputs[0]
        self.steps[OUTPUTS] = Step(OUTPUTS, OUTPUTS, "other", outputs, None, together, (), "")
        return self._alive({OUTPUTS}), OUTPUTS

    def _alive(self, wanted: set[str]) -> tuple[Step, ...]:
        """What outputs and layers need; pieces of a split have taken the place of the split."""
        wanted = wanted | self.named | {INPUT}
        for step in reversed(self.steps.values()):
            if step.name in wanted:
                wanted.update(step.inputs)
        return tuple(step for step in self.steps.values() if step.name in wanted)

    def _add(self, step: Recorded, role: Role) -> None:
        layout = layout_of(step, role, self.known)
        inputs, call = role.inputs or step.inputs, role.call
        if call is None and callable(role.params):
            call = role.params
        elif call is None:
            counts = self._counts(inputs)
            if step.name != INPUT and (not inputs or (counts is None and _is_sized((step.args, step.kwargs)))):
                inputs, counts = (*inputs, INPUT), (len(inputs), 0, 1)
            call = Replay((step,), inputs, counts)
        if role.kind == "conv" and not self.known[inputs[0]].layout:  # what a convolution reads are maps
            self.known[inputs[0]] = replace(self.known[inputs[0]], layout="NCHW")
            self.steps[inputs[0]] = replace(self.steps[inputs[0]], layout="NCHW")
        self.known[step.name] = Source(step.shape, layout)
        label = self.labels.get(step.name, step.name)
        self.steps[step.name] = Step(step.name, label, role.kind, inputs, role.params, call, step.scope, layout)

    def _counts(self, inputs: tuple[str, ...]) -> tuple[int, int, int] | None:
        """Which axis of which input tells the number of images, and its length for each."""
        for place, name in enumerate(inputs):
            for axis, side in enumerate(self.recording.by_name[name].shape):
                if isinstance(side, Sized) and side.offset == 0:
                    return place, axis, side.scale
        return None

    def _taken_together(self) -> dict[str, tuple[Recorded, ...]]:
        """Chains of operations by the name of the last one: shuffles and choices of channels in several operations."""
        chains = {}
        for step in self.recording.steps:
            for chain in (self._chain(step, ("reshape", "transpose", "contiguous", "reshape")),
                          self._chain(step, ("reshape", "transpose", "reshape")),
                          self._chain(step, ("select", "unsqueeze"))):  # fmt: skip
                if chain:
                    chains[step.name] = chain
            source = self.recording.by_name[step.inputs[0]] if step.op is operator.getitem else None
            if source is not None and source.inputs:
                chains[step.name] = (source, step)
        return chains

    def _chain(self, step: Recorded, names: tuple[str, ...]) -> tuple[Recorded, ...]:
        """The operations called ``names`` that end in ``step``, each read by the next one alone."""
        chain: tuple[Recorded, ...] = (step,)
        for name in reversed(names[:-1]):
            (source,) = chain[0].inputs if len(chain[0].inputs) == 1 else (INPUT,)
            if source in self.named or len(self.recording.users[source]) != 1:
                return ()
            chain = (self.recording.by_name[source], *chain)
            if not _is_called(chain[0], name):
                return ()
        return chain if _is_called(step, names[-1]) else ()

    def _together(self, chain: tuple[Recorded, ...]) -> None:
        source, step = chain[0].inputs[0], chain[-1]
        index = None
        if len(chain[0].inputs) == 1 and source in self.known:
            before = self.known[source]
            index = channels_of(step, chain[0], before) if len(chain) == 2 else shuffled(chain, before)
        if index is not None:
            self._add(step, Role("channels", None, Channels(index), (source,), "NCHW"))
            return
        for part in chain:
            if part.name not in self.steps:
                self._add(part, classify(part, self.known))


def _is_called(step: Recorded, name: str) -> bool:
    return isinstance(step.op, torch._ops.OpOverload) and step.op._schema.name == f"aten::{name}"


def _is_sized(tree: Any) -> bool:
    if isinstance(tree, dict):
        tree = tuple(tree.values())
    return isinstance(tree, Sized) or (isinstance(tree, (tuple, list)) and any(map(_is_sized, tree)))

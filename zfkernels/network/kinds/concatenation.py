"""Concatenation of maps along their channels."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from zfkernels.network.kinds.base import Chunk, Kind, Scene, aligned, arguments, op_name
from zfkernels.network.kinds.cell_rules import RULES
from zfkernels.network.kinds.cellwise import Cellwise
from zfkernels.network.kinds.signals import Descent, Rules, Signal
from zfkernels.network.maps import Maps
from zfkernels.network.recording import Step
from zfkernels.windows import Windows


class Concatenation(Cellwise):
    """``torch.cat`` along the only axis of channels.

    A concatenation that starts with the same maps as an earlier one, as in a dense block, starts with its result.
    """

    kind = "concatenation"
    keeps_sign = makes_new = True

    def __init__(self, step: Step, scene: Scene, maps: Maps, parts: tuple[str, ...]) -> None:
        self.parts = self.joins = parts
        for name, earlier in scene.kinds.items():
            if isinstance(earlier, Concatenation) and len(earlier.joins) > 1:
                count = len(earlier.joins)
                if earlier.joins == parts[:count] and count <= len(parts):
                    self.parts = (name, *parts[count:])
        super().__init__(step, scene, maps, tuple(dict.fromkeys(self.parts)))

    @classmethod
    def recognise(cls, step: Step, scene: Scene) -> Kind | None:
        if op_name(step) not in ("cat", "concat", "concatenate"):
            return None
        known = all(scene.maps(name) is not None for name in step.inputs)
        found = RULES["cat"](step, scene) if step.inputs and known else None
        if found is None or len(found.maps.channel_axes) != 1:
            return None
        return cls(step, scene, found.maps, tuple(part.name for part in arguments(step)["tensors"]))

    def run(self, values: Mapping[str, Any], batch: int) -> Tensor:
        assert self.maps is not None
        return torch.cat([values[name] for name in self.parts], self.maps.channel_axes[0])

    def run_on_windows(self, chunk: Chunk) -> Windows:
        layout = chunk.layout(self.name)
        parts = {name: aligned(chunk, name, layout).values for name in self.inputs}
        return layout.windows(torch.cat([parts[name] for name in self.parts], 1))

    def clean_inputs(self, rules: Rules) -> Collection[str]:
        return ()

    def send_down(self, signal: Signal, descent: Descent) -> Iterator[tuple[str, Signal]]:
        assert isinstance(signal, Windows)
        channels = {name: maps.channels for name, maps in zip(self.inputs, self.below, strict=True) if maps is not None}
        split = signal.values.split([channels[name] for name in self.parts], 1)
        for name, part in zip(self.parts, split, strict=True):
            yield name, replace(signal, values=part.contiguous())

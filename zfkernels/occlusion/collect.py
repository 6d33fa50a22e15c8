"""Takes the values of one batch of positions after the other, and holds what a sweep returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from zfkernels.network.program import Program


@dataclass(frozen=True)
class SweepValues:
    """What a sweep returns.

    Attributes:
        clean: the model's output for the clean images, of its own form.
        outputs: the same form, each tensor [N, *positions, ...] in place of [N, ...].
        channel: int64 [N], with a watched step: the map with the largest spatial sum on the clean image.
        activity: [N, *positions], with a watched step: that map's spatial sum.
        batch_size: positions that travelled together.
    """

    clean: Any
    outputs: Any
    channel: Tensor | None
    activity: Tensor | None
    batch_size: int


class Outputs:
    """The tensors that the network's output is made of, for every image and position.

    Args:
        clean: their values for the clean images, by name.
        total: images times positions.
        targets: int64 [T], the classes to keep of outputs [N, classes]; None: all.
    """

    def __init__(self, clean: Mapping[str, Tensor], total: int, targets: Tensor | None) -> None:
        self.targets = targets
        kept = {name: self._kept(value) for name, value in clean.items()}
        self.held = {name: value.new_empty((total, *value.shape[1:])) for name, value in kept.items()}

    def store(self, first: int, values: Mapping[str, Any]) -> None:
        """Takes the values of entries from ``first`` on (entry = image * positions + position)."""
        for name, held in self.held.items():
            value = self._kept(values[name])
            held[first : first + len(value)] = value

    def _kept(self, value: Tensor) -> Tensor:
        return value if self.targets is None else value[:, self.targets]

    def by_name(self, shape: tuple[int, ...]) -> dict[str, Tensor]:
        """The tensors with axes (images, positions) in place of the first."""
        return {name: value.unflatten(0, shape) for name, value in self.held.items()}


class Watch:
    """The strongest map of each image at one step, ``channel`` [N], and its spatial sums, ``activity`` [N * P].

    Args:
        program: the network.
        name: of the step.
        clean: its value for the clean images.
        total: images times positions.
    """

    def __init__(self, program: Program, name: str, clean: Tensor, total: int) -> None:
        self.name, self.maps = name, program.kinds[name].maps
        sums = self.sums(clean)
        self.channel = sums.argmax(1)
        self.wanted = self.channel[:, None].expand(-1, total // max(1, len(clean))).flatten()
        self.activity = sums.new_empty(total)

    def record(self, first: int, sums: Tensor) -> None:
        """Takes the spatial sums [K, C] of entries from ``first`` on."""
        rows = slice(first, first + len(sums))
        self.activity[rows] = sums.gather(1, self.wanted[rows, None])[:, 0]

    def sums(self, value: Tensor) -> Tensor:
        """[K, C]: sums over each map; the units of a step without maps."""
        return value.flatten(1) if self.maps is None else self.maps.frames(value).sum((2, 3))


def check_targets(outputs: Sequence[Tensor], targets: Tensor, name: str) -> None:
    """Raises a ValueError in the name of a function unless the output is one [N, classes] with all ``targets``."""
    if len(outputs) != 1 or outputs[0].dim() != 2:
        got = tuple(outputs[0].shape) if len(outputs) == 1 else f"{len(outputs)} tensors"
        raise ValueError(f"{name}: expected targets of an output that is one tensor [N, classes], got {got}")
    classes = outputs[0].shape[1]
    if bool(((targets < 0) | (targets >= classes)).any()):
        raise ValueError(f"{name}: expected targets from 0 to {classes - 1}, got {targets.tolist()}")

"""Takes the values of one batch of positions after the other, and holds what a sweep returns."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from zfkernels.network.check import tensors_of
from zfkernels.network.tree import map_leaves
from zfkernels.occlusion.arguments import NAME
from zfkernels.occlusion.watch import Activity

Reduce = Callable[[Any, Tensor, Any], Tensor]


@dataclass(frozen=True)
class SweepValues:
    """What a sweep returns.

    Attributes:
        clean: the model's output for the clean images, of its own form; reduced, if the outputs are.
        outputs: the same form, each tensor [N, *positions, ...] in place of [N, ...].
        activities: one for each watched step.
        batch_size: positions that travelled together.
    """

    clean: Any
    outputs: Any
    activities: tuple[Activity, ...]
    batch_size: int


class Outputs:
    """What is kept of the outputs of all entries (entry = image * positions + position): all, classes, or reduced.

    Args:
        clean: the model's output for the clean images.
        form: of a chunk's output: tensors [K, ...] in the places that depend on the images.
        moving: which tensors of it depend on the images, in order.
        images: how many.
        total: images times positions.
        targets: int64 [T], the classes to keep of outputs [N, classes]; None: all.
        reduce: from a chunk's outputs, image int64 [K] and the clean outputs to a tensor [K, ...]; None: all is kept.
        device: of the results.
        fits: it is known that there is memory for the results.

    Raises:
        ValueError: a reducer that returns something else, or more results than there is memory.
    """

    def __init__(
        self,
        clean: Any,
        moving: Sequence[bool],
        images: int,
        total: int,
        targets: Tensor | None,
        reduce: Reduce | None,
        device: torch.device,
        fits: bool = False,
    ) -> None:
        self.form, self.moving, self.targets, self.reduce = clean, moving, targets, reduce
        self.total = total
        every = torch.arange(images, device=device)
        self.clean = clean if reduce is None else self.reduced(reduce(clean, every, clean), images)
        kept = [self.clean] if reduce is not None else self._tensors(clean)
        like = [value if targets is None else value[:, targets] for value in kept]
        size = sum(total * value[:1].nbytes for value in like)
        room = size if fits else _memory(device)
        if size > room:
            raise ValueError(
                f"{NAME}: expected results that fit into the memory of {room / 2**30:.1f} GiB, got {size / 2**30:.1f} "
                f"GiB for {total} positions; reduce= keeps what is wanted of each, targets= some classes"
            )
        self.held = [value.new_empty((total, *value.shape[1:])) for value in like]

    def store(self, first: int, outputs: Any, image: Tensor) -> None:
        """Takes the outputs of entries from ``first`` on, of ``image`` int64 [K]."""
        if self.reduce is not None:
            return self.take(first, self.reduced(self.reduce(outputs, image, self.form), len(image)))
        rows = slice(first, first + len(image))
        for held, value in zip(self.held, self._tensors(outputs), strict=True):
            kept = value if self.targets is None else value[:, self.targets]
            if kept.shape != held[rows].shape:
                got, before = list(kept.shape), list(held[rows].shape)
                raise ValueError(
                    f"{NAME}: expected outputs of one size for all positions, got {got} after {before}; reduce= makes "
                    "one of them"
                )
            held[rows] = kept
        return None

    def take(self, first: int, found: Tensor) -> None:
        """Takes reduced outputs [K, ...] of entries from ``first`` on."""
        self.held[0][first : first + len(found)] = found

    def reduced(self, found: Any, count: int) -> Tensor:
        if not isinstance(found, Tensor) or not found.dim() or len(found) != count:
            got = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise ValueError(
                f"{NAME}: expected reduce to return a tensor [{count}, ...] for {count} outputs, got {got}"
            )
        return found

    def result(self, shape: tuple[int, ...]) -> Any:
        """The outputs with the axes ``shape`` (images, positions) in place of the first."""
        if self.reduce is not None:
            return self.held[0].unflatten(0, shape)
        rest, moving = iter(self.held), iter(self.moving)

        def filled(leaf: Any) -> Any:
            return next(rest).unflatten(0, shape) if isinstance(leaf, Tensor) and next(moving) else leaf

        return map_leaves(filled, self.form)

    def _tensors(self, outputs: Any) -> list[Tensor]:
        return [value for value, moves in zip(tensors_of(outputs), self.moving, strict=True) if moves]


def _memory(device: torch.device) -> int:
    """Bytes that results may take: all of a machine's memory, what is free on a GPU."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    known = getattr(os, "sysconf_names", {})
    if not {"SC_PHYS_PAGES", "SC_PAGE_SIZE"} <= set(known):
        return 2**63  # a system that does not say
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def check_targets(outputs: Sequence[Tensor], targets: Tensor, name: str) -> None:
    """Raises a ValueError in the name of a function unless the output is one [N, classes] with all ``targets``."""
    if len(outputs) != 1 or outputs[0].dim() != 2:
        got = tuple(outputs[0].shape) if len(outputs) == 1 else f"{len(outputs)} tensors"
        raise ValueError(f"{name}: expected targets of an output that is one tensor [N, classes], got {got}")
    classes = outputs[0].shape[1]
    if bool(((targets < 0) | (targets >= classes)).any()):
        raise ValueError(f"{name}: expected targets from 0 to {classes - 1}, got {targets.tolist()}")

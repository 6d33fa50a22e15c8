"""What an occlusion sweep returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class OcclusionMap:
    """What a network says while a square hides each part of the image in turn.

    Attributes:
        positions: int64 [rows, cols, 2] (or [P, 2]): row and column of the square's upper left corner.
        window: (height, width) of the square.
        outputs: [N, rows, cols, classes] (or [N, P, classes]), the model's raw outputs; with ``targets``, theirs alone.
            Of a model that returns something else: of the form of its own output, each tensor [N, rows, cols, ...].
        clean: [N, classes], the raw outputs for the clean images, all classes; or of the form of the model's output.
        targets: int64 [T], the classes that ``outputs`` holds; None: all.
        channel: int64 [N], with ``layer``: the map with the largest spatial sum on the clean image.
        activity: [N, rows, cols] (or [N, P]), with ``layer``: that map's spatial sum.
    """

    positions: Tensor
    window: tuple[int, int]
    outputs: Any
    clean: Any
    targets: Tensor | None = None
    channel: Tensor | None = None
    activity: Tensor | None = None

    def probability(self, target: int | Tensor) -> Tensor:
        """Softmax probability of a class (int, or int64 [N]: one for each image) per position.

        Raises:
            ValueError: the sweep kept a few classes only, so that no softmax can be taken.
        """
        self._check_classes("probability")
        if self.targets is not None:
            raise ValueError("probability: expected a sweep of all classes, got one of `targets` only")
        return self._pick(self.outputs.softmax(-1), target)

    def best_class(self) -> Tensor:
        """int64 [N, rows, cols]: the most probable class (among ``targets`` if given) per position."""
        self._check_classes("best_class")
        best = self.outputs.argmax(-1)
        return best if self.targets is None else self.targets[best]

    def drop(self, target: int | Tensor) -> Tensor:
        """[N, rows, cols]: clean minus occluded output of a class, positive where hiding hurts."""
        self._check_classes("drop")
        classes = self._classes(target)
        clean = self.clean.gather(1, classes[:, None]).view(-1, *[1] * (self.outputs.dim() - 2))
        return clean - self._pick(self.outputs, target)

    def _check_classes(self, method: str) -> None:
        if not isinstance(self.clean, Tensor) or self.clean.dim() != 2:
            got = tuple(self.clean.shape) if isinstance(self.clean, Tensor) else type(self.clean).__name__
            raise ValueError(f"{method}: expected the sweep of a model that returns [N, classes], got {got}")

    def _classes(self, target: int | Tensor) -> Tensor:
        device = self.outputs.device
        classes = torch.as_tensor(target, dtype=torch.int64, device=device).expand(len(self.outputs))
        if ((classes < 0) | (classes >= self.clean.shape[1])).any():
            raise ValueError(f"target: expected a class from 0 to {self.clean.shape[1] - 1}, got {target}")
        return classes

    def _pick(self, values: Tensor, target: int | Tensor) -> Tensor:
        column = self._classes(target)
        if self.targets is not None:
            known = self.targets[None, :] == column[:, None]
            if not known.any(1).all():
                raise ValueError(f"target: expected one of the sweep's targets {self.targets.tolist()}, got {target}")
            column = known.to(torch.int64).argmax(1)
        index = column.view(-1, *[1] * (values.dim() - 1)).expand(*values.shape[:-1], 1)
        return values.gather(-1, index)[..., 0]

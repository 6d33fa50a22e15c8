"""What a study of invariance returns."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Invariance:
    """How features and the probability of a class follow a transformation of the image, in T amounts.

    Attributes:
        transform: ``"vertical"``, ``"horizontal"``, ``"scale"``, ``"rotation"`` or ``"brightness"``.
        amounts: [T]: pixels, a factor, degrees (clockwise), or a factor.
        layers: L names.
        distance: float64 [T, L, N], the Euclidean distance between a layer's values for the transformed and for the
            original image.
        reference: float64 [L], the root mean square of that distance between two different originals; NaN for a single
            image.
        probability: [T, N], softmax probability of each image's class.
        clean: [N], that of the original.
        targets: int64 [N], the class of each image.
    """

    transform: str
    amounts: Tensor
    layers: tuple[str, ...]
    distance: Tensor
    reference: Tensor
    probability: Tensor
    clean: Tensor
    targets: Tensor

    @property
    def relative(self) -> Tensor:
        """float64 [T, L, N]: distances in units of ``reference``; 1: as far as from one image to another."""
        return self.distance / self.reference[:, None]

    @property
    def summary(self) -> Tensor:
        """float64 [L, N]: 1 minus the mean relative distance over all amounts; 1: the layer does not notice."""
        return 1 - self.relative.mean(0)

    def by_class(self) -> dict[int, Tensor]:
        """For each class among ``targets`` its mean ``summary``, float64 [L]."""
        classes = self.targets.unique().tolist()
        return {label: self.summary[:, self.targets == label].mean(1) for label in classes}

    @property
    def kept(self) -> Tensor:
        """[N]: the mean probability of the class over all amounts, as a share of that for the original."""
        return self.probability.mean(0) / self.clean.clamp(min=torch.finfo(self.clean.dtype).tiny)

"""What a study of a training's evolution returns."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class LayerEvolution:
    """The strongest activation of M maps of one layer over a training set, at E epochs.

    Attributes:
        layer: Its name.
        maps: int64 [M].
        image: int64 [E, M], the image that excites the map most; -1 where none excites it (a dead map).
        value: float64 [E, M], the activation.
        position: int64 [E, M, 2], row and column in the map.
        tiles: [E, M, 3, h, w], its projection in the model's input units: the receptive field, or the whole image where
            that is no larger. Zero outside the image.
        fixed: [E, M], cosine of the projection of the map in the image that excites it most at the last epoch, with
            that of the last epoch; NaN where a projection is zero; None where the last epoch was not known yet.
    """

    layer: str
    maps: Tensor
    image: Tensor
    value: Tensor
    position: Tensor
    tiles: Tensor
    fixed: Tensor | None = None

    @property
    def jumps(self) -> Tensor:
        """bool [E, M]: whether the strongest image is another one than at the epoch before; false for the first."""
        changed = torch.zeros_like(self.image, dtype=torch.bool)
        changed[1:] = self.image[1:] != self.image[:-1]
        return changed

    @property
    def similarity(self) -> Tensor:
        """[E, M]: cosine of each tile with that of the last epoch; it drops where the strongest image changes."""
        flat = self.tiles.flatten(2)
        return cosine(flat, flat[-1:])


@dataclass(frozen=True)
class Evolution:
    """The evolution of several layers.

    Attributes:
        epochs: int64 [E], counted from 1; 0 is the network before training.
        layers: One for each layer, lower ones first.
    """

    epochs: Tensor
    layers: tuple[LayerEvolution, ...]


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Cosine along the last dimension; NaN where one of the two is zero."""
    return (a * b).sum(-1) / (a.norm(dim=-1) * b.norm(dim=-1))

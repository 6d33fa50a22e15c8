"""What a mask shows, by MONAI's names for it."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from zfkernels.occlusion.cover import Cover
from zfkernels.occlusion.fills import fading

MODES = ("gaussian", "mean_patch", "mean_img")
Mode = str | float | Callable[[Tensor, Tensor], Any]


def refuse_other_modes(name: str, mode: Any) -> None:
    """Raises in the name of a function unless ``mode`` is one."""
    if isinstance(mode, str) and mode not in MODES:
        raise ValueError(f"{name}: expected mode one of {MODES}, a number or a function, got {mode!r}")
    if not isinstance(mode, (str, numbers.Real)) and not callable(mode):
        raise TypeError(f"{name}: expected mode one of {MODES}, a number or a function, got {type(mode).__name__}")


class Shown:
    """What a mask shows of an image.

    Args:
        mode: as of ``OcclusionSensitivity``.
        mask: size of the mask along each axis.
        x: the image, [1, C, *size].
    """

    def __init__(self, mode: Mode, mask: tuple[int, ...], x: Tensor) -> None:
        self.mode, self.mask, self.x = mode, mask, x
        self.weight = fading(mask).to(x) if mode == "gaussian" else None
        self.value = None
        if mode == "mean_img":
            self.value = x.mean()
        elif isinstance(mode, numbers.Real):
            self.value = x.new_tensor(float(mode))

    def at(self, place: Sequence[int]) -> Tensor:
        """What the mask shows at a place; broadcasts to [1, C, *mask]."""
        patch = self.x[self.cells(place)]
        if self.weight is not None:
            return patch * self.weight
        if self.value is not None:
            return self.value
        if callable(self.mode):
            return torch.as_tensor(self.mode(self.x, patch.clone())).to(self.x)
        return patch.mean()

    def cells(self, place: Sequence[int]) -> tuple[slice, ...]:
        """The cells of the image [1, C, *size] that the mask hides at a place."""
        ranges = (slice(first, first + side) for first, side in zip(place, self.mask, strict=True))
        return (slice(None), slice(None), *ranges)

    def cover(self, places: Tensor) -> Cover:
        """The same for a sweep over places int64 [P, 2] of a two-dimensional image."""
        channels = self.x.shape[1]
        nothing = self.x.new_zeros(channels)
        if self.weight is not None:
            return Cover(nothing, weight=self.weight)
        if self.value is not None:
            return Cover(nothing + self.value)
        if callable(self.mode):
            each = [self.at(place).expand(1, channels, *self.mask) for place in places.tolist()]
            return Cover(nothing, each=torch.cat(each))
        means = torch.stack([self.at(place) for place in places.tolist()])
        return Cover(nothing, each=means[:, None, None, None].expand(-1, channels, *self.mask))

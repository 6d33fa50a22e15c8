"""What a square shows: from the argument ``fill`` to a cover, and fills that are functions."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from zfkernels.occlusion.arguments import NAME
from zfkernels.occlusion.cover import Cover
from zfkernels.occlusion.where import Changes

NAMES = ("mean", "blur")
Fill = float | str | Sequence[float] | Tensor | Callable[[Tensor], Any]


def several(fill: Any) -> list[Any] | None:
    """The fills, where several are given: a list that is not one number for each channel, [F, C] or [F, N, C, H, W]."""
    if isinstance(fill, (list, tuple)) and fill and not all(isinstance(value, numbers.Real) for value in fill):
        return list(fill)
    if isinstance(fill, Tensor) and fill.dim() in (2, 5) and len(fill):
        return list(fill)
    return None


def of_image(fill: Any, image: int, images: Tensor) -> Any:
    """The fill, or the fills, of one image, where each image has its own."""
    fills = several(fill)
    if fills is not None:
        return [of_image(each, image, images) for each in fills]
    return fill[image : image + 1] if isinstance(fill, Tensor) and fill.shape == images.shape else fill


def describe(fill: Any) -> str:
    """A fill in a word."""
    if isinstance(fill, Tensor):
        return "colour" if fill.dim() < 2 else "image"
    if isinstance(fill, (tuple, list)):
        return "colour"
    return getattr(fill, "__name__", None) or str(fill)


def cover_of(fill: Any, images: Tensor, changes: Changes) -> Cover:
    """The cover that a fill means for images [N, C, H, W].

    Raises:
        TypeError: something that is no fill.
        ValueError: an unknown name, or a wrong shape.
    """
    hidden = {"mask": changes.mask, "labels": changes.labels, "label": changes.label}
    channels = images.shape[1]
    if isinstance(fill, str):
        if fill == "mean":
            return Cover(images.mean((2, 3), keepdim=True).expand_as(images), **hidden)
        if fill == "blur":
            sizes = changes.boxes.reshape(-1, 4)[:, 2:]
            if changes.labels is not None or bool((sizes != sizes[0]).any()):
                raise ValueError(f"{NAME}: expected fill='blur' with windows of one size, got several")
            return Cover(images.new_zeros(channels), weight=fading(changes.window), **hidden)
        raise ValueError(f"{NAME}: expected fill a number, a tensor, a function or one of {NAMES}, got {fill!r}")
    if isinstance(fill, (int, float)) and not isinstance(fill, bool):
        return Cover(images.new_full((channels,), fill), **hidden)
    if callable(fill):
        return Cover(torch.stack([_called(fill, image) for image in images]) if len(images) else images, **hidden)
    if isinstance(fill, (tuple, list)) and all(isinstance(value, numbers.Real) for value in fill):
        fill = torch.tensor(fill)
    if not isinstance(fill, Tensor):
        raise TypeError(f"{NAME}: expected fill a number, a tensor, a name or a function, got {type(fill).__name__}")
    fill = fill.detach().to(images)
    each = (changes.boxes[..., 0].numel(), channels, *changes.window)
    if tuple(fill.shape) == each and fill.shape != images.shape:
        return Cover(images.new_zeros(channels), each=fill, **hidden)
    if fill.shape not in (images.shape[1:2], images.shape[1:], (1, *images.shape[1:]), images.shape):
        raise ValueError(
            f"{NAME}: expected fill of shape [{channels}], {tuple(images.shape[1:])}, {tuple(images.shape)} or {each}, "
            f"got {tuple(fill.shape)}"
        )
    return Cover(fill if fill.dim() == 1 else fill.expand_as(images), **hidden)


def _called(fill: Callable[[Tensor], Any], image: Tensor) -> Tensor:
    """What a function shows in an image [C, H, W]: a number, [C] or [C, H, W], as the latter."""
    shown = torch.as_tensor(fill(image), dtype=image.dtype, device=image.device).detach()
    if shown.shape not in ((), image.shape[:1], image.shape):
        raise ValueError(
            f"{NAME}: expected fill to return a number, [{len(image)}] or {tuple(image.shape)}, "
            f"got {tuple(shown.shape)}"
        )
    return (shown[:, None, None] if shown.dim() == 1 else shown).expand_as(image)


def fading(window: Sequence[int]) -> Tensor:
    """float64 [h, w]: 0 in the middle of a window, 1 where it is farthest from it; the image times it is shown.

    (max G - G) / (max G - min G), with G(y, x) = g(y - h // 2, h / 4) g(x - w // 2, w / 4), and g(d, s) the integral of
    the normal density of deviation s from d - 1/2 to d + 1/2; of more or fewer axes alike. MONAI's
    ``OcclusionSensitivity`` hides in this way by default.
    """
    product = torch.ones((), dtype=torch.float64)
    for side in window:
        distance = torch.arange(side, dtype=torch.float64) - side // 2
        scale = math.sqrt(2) * side / 4
        line = (torch.erf((distance + 0.5) / scale) - torch.erf((distance - 0.5) / scale)) / 2
        product = product[..., None] * line
    low, high = product.min(), product.max()
    return torch.zeros_like(product) if low == high else (high - product) / (high - low)


class noise:
    """A fill: normal noise of each image's own mean and deviation in each channel, the same for the same seed.

    Args:
        seed: of the generator.
    """

    def __init__(self, seed: int = 0) -> None:
        if not isinstance(seed, int) or isinstance(seed, bool):
            raise TypeError(f"noise: expected seed an int, got {seed!r}")
        self.seed, self.__name__ = seed, f"noise({seed})"

    def __call__(self, image: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(self.seed)
        drawn = torch.randn(image.shape, generator=generator, dtype=torch.float64).to(image)
        return image.mean((1, 2), keepdim=True) + drawn * image.std((1, 2), keepdim=True)

"""From what a network takes back to a picture in true colours."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from zfkernels.results import Look

STRETCHED = "colours stretched"


def true_colors(
    images: Any,  # floating point [N, C, H, W]
    look: Look,
    preprocess: Any = None,
) -> tuple[Tensor, str]:  # uint8 [N, 3, H, W]
    """Pictures of a network's inputs, and a note where their colours are not true ("" where they are).

    Args:
        images: As the network takes them.
        look: What the network says of its normalisation.
        preprocess: An object with ``mean`` and ``std``, or a function from ``images`` to pixels, floating point in
            [0, 1] or uint8; None: ``look``'s. Where neither is known, values that lie in [0, 1] are pixels; others are
            stretched, and the note says so.

    Raises:
        TypeError: Images that are no tensor, or a ``preprocess`` that is neither.
        ValueError: Images of another shape.
    """
    if not isinstance(images, Tensor):
        raise TypeError(f"plot: expected images a tensor [N, C, H, W], got {type(images).__name__}")
    if images.dim() != 4:
        raise ValueError(f"plot: expected images of shape [N, C, H, W], got {tuple(images.shape)}")
    images = images.detach().cpu()
    given = look if preprocess is None else Look.of(_Holder(preprocess))
    note = ""
    if given.mean is not None and given.std is not None and images.is_floating_point():
        mean, std = (torch.tensor(values, dtype=torch.float32).view(-1, 1, 1) for values in (given.mean, given.std))
        pixels = images.float() * std + mean
    elif callable(preprocess):
        pixels = torch.as_tensor(preprocess(images))
    elif preprocess is not None:
        raise TypeError(
            f"plot: expected preprocess an object with mean and std or a function back to pixels, got "
            f"{type(preprocess).__name__}"
        )
    else:
        pixels = images
        if images.is_floating_point() and not bool(((images >= 0) & (images <= 1)).all()):
            low, high = images.float().amin((1, 2, 3), keepdim=True), images.float().amax((1, 2, 3), keepdim=True)
            pixels, note = (images.float() - low) / (high - low).clamp(min=1e-12), STRETCHED
    if pixels.dtype != torch.uint8:
        pixels = (pixels.float() * 255).round().clamp(0, 255).to(torch.uint8)
    if pixels.shape[1] != 3:  # no colours: its mean as grey
        pixels = pixels.float().mean(1, keepdim=True).round().to(torch.uint8).expand(-1, 3, -1, -1)
    return pixels, note


class _Holder:
    """A preprocessing where a model would have it."""

    def __init__(self, preprocess: Any) -> None:
        self.preprocess = preprocess

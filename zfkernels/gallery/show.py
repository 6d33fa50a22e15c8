"""How what a network takes is shown to people: which of its channels, and in which range."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from zfkernels.models import AnyPreprocess, Normalization, Preprocess, PreprocessFunction, name_of

MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # Pillow's, of pictures for networks of so many channels
OUTLIERS = 0.01  # of the values of an image without a known range, at each end


@dataclass(frozen=True)
class Show:
    """Makes pictures of images as the network takes them.

    Attributes:
        channels: How many there are.
        how: "rgb" (the first three), "grey" (the mean of all), the numbers of three channels, or a function from images
            [N, C, H, W] to what is shown: uint8, or floats in [0, 1], [N, 3, H, W] or [N, 1, H, W].
        normalization: Means and standard deviations of the channels, for pixels in [0, 1]; None: nobody knows, and
            each image is stretched over its own range, one hundredth of the values at each end left out.
    """

    channels: int
    how: str | tuple[int, ...] | Callable[[Tensor], Tensor]
    normalization: Normalization | None = None

    @staticmethod
    def of(how: Any, channels: int, preprocess: AnyPreprocess) -> Show:
        """The way ``how`` (None: "rgb" for three channels or more, else "grey") for images that ``preprocess`` made.

        Raises:
            TypeError, ValueError: ``how`` is no way to show so many channels.
        """
        how = ("rgb" if channels >= 3 else "grey") if how is None else how
        if isinstance(how, Sequence) and not isinstance(how, str):
            numbers = tuple(how)
            if len(numbers) != 3 or not all(type(n) is int and 0 <= n < channels for n in numbers):
                raise ValueError(f"build_gallery: expected show three channels from 0 to {channels - 1}, got {how!r}")
            how = numbers
        elif isinstance(how, str):
            if how not in ("rgb", "grey") or (how == "rgb" and channels < 3):
                choices = "'rgb' or 'grey'" if channels >= 3 else f"'grey', for {channels} channels"
                raise ValueError(f"build_gallery: expected show {choices}, got {how!r}")
        elif not callable(how):
            raise TypeError(
                f"build_gallery: expected show 'rgb', 'grey', three channels or a function, got {type(how).__name__}"
            )
        known: Normalization | None = None
        if isinstance(preprocess, Preprocess) and channels == 3:  # that of a data set of tensors, too
            known = preprocess.mean, preprocess.std
        elif isinstance(preprocess, PreprocessFunction) and channels in MODES:
            known = preprocess.normalization(MODES[channels])
            known = known if known is not None and len(known[0]) == channels else None
        return Show(channels, how, known)

    def pixels(self, images: Tensor) -> Tensor:  # [N, C, H, W], as the network takes them
        """What is shown: uint8 [N, 3, H, W]."""
        if callable(self.how):
            shown = self.how(images)
            shown = shown.float() / 255 if shown.dtype == torch.uint8 else shown.float()
            if shown.dim() != 4 or shown.shape[1] not in (1, 3):
                raise ValueError(
                    f"build_gallery: expected show a function to [N, 3, H, W] or [N, 1, H, W], got {tuple(shown.shape)}"
                )
            shown = shown.expand(-1, 3, -1, -1)
        elif self.normalization is None:
            shown = _stretched(self.chosen(images))
        else:
            mean, std = (images.new_tensor(values).view(-1, 1, 1) for values in self.normalization)
            shown = self.chosen(images * std + mean)
        return (shown * 255).round_().clamp_(0, 255).to(torch.uint8)

    def chosen(self, values: Tensor) -> Tensor:  # [N, C, h, w]
        """Three of the channels, or their mean as grey; of projections too: [N, 3, h, w]."""
        if isinstance(self.how, tuple):
            return values[:, list(self.how)]
        return values[:, :3] if self.how == "rgb" else values.mean(1, keepdim=True).expand(-1, 3, -1, -1)

    def record(self) -> Any:
        """What tells it from another one, in words that are the same in each process."""
        return name_of(self.how) if callable(self.how) else self.how


def _stretched(images: Tensor) -> Tensor:
    """Each image over its own range, that of all channels together, as numbers from 0 to 1."""
    flat = images.flatten(1).float().sort(1).values
    cut = int(OUTLIERS * (flat.shape[1] - 1))
    low, high = flat[:, cut], flat[:, flat.shape[1] - 1 - cut]
    width = torch.where(high > low, high - low, 1)
    return (images.float() - low.view(-1, 1, 1, 1)) / width.view(-1, 1, 1, 1)

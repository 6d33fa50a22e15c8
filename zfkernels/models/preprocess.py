"""From a picture to what a network takes, and back to pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from PIL import Image

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Preprocess:
    """Resizes the shorter side, cuts out the centre and normalises: torchvision's evaluation transform.

    Attributes:
        size: Height and width of the result in pixels.
        resize: Length of the shorter side before the centre is cut out, at least ``size``.
        mean, std: Per-channel normalisation of pixels in [0, 1].
    """

    size: int = 224
    resize: int = 256
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    def __post_init__(self) -> None:
        if not 0 < self.size <= self.resize:
            raise ValueError(f"Preprocess: expected 0 < size <= resize, got size {self.size} and resize {self.resize}")
        if not all(std > 0 for std in self.std):
            raise ValueError(f"Preprocess: expected std three positive numbers, got {self.std}")

    def __call__(self, image: Image.Image) -> Tensor:  # float32 [3, size, size]
        """The picture as the network takes it.

        Raises:
            ValueError: The picture is so elongated that resizing its shorter side would need too much memory.
        """
        from PIL import Image
        from torchvision.transforms.v2 import functional as F

        short, long = sorted(image.size)
        if long * self.resize**2 > short * (Image.MAX_IMAGE_PIXELS or float("inf")):
            raise ValueError(f"too elongated to resize: {image.width}x{image.height} pixels")
        image = F.center_crop(F.resize(image, [self.resize]), [self.size])
        pixels = F.pil_to_tensor(image).float() / 255
        return F.normalize(pixels, list(self.mean), list(self.std), inplace=True)

    def to_pixels(
        self,
        images: Tensor,  # [..., 3, H, W], as the network takes them
    ) -> Tensor:  # uint8 [..., 3, H, W]
        """The inverse of the normalisation, clamped to 0 … 255."""
        mean, std = (images.new_tensor(values).view(3, 1, 1) for values in (self.mean, self.std))
        return ((images * std + mean) * 255).round_().clamp_(0, 255).to(torch.uint8)

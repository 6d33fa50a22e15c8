"""From a picture to what a network takes, and back to pixels."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    import numpy as np
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

    def __call__(self, image: Image.Image | np.ndarray) -> Tensor:  # float32 [3, size, size]
        """The picture, or array of 8-bit values, as the network takes it.

        Raises:
            ValueError: The picture is so elongated that resizing its shorter side would need too much memory.
        """
        from PIL import Image
        from torchvision.transforms.v2 import functional as F

        picture = _as_rgb(image)
        short, long = sorted(picture.size)
        if long * self.resize**2 > short * (Image.MAX_IMAGE_PIXELS or float("inf")):
            raise ValueError(f"too elongated to resize: {picture.width}x{picture.height} pixels")
        picture = F.center_crop(F.resize(picture, [self.resize]), [self.size])
        pixels = F.pil_to_tensor(picture).float() / 255
        return F.normalize(pixels, list(self.mean), list(self.std), inplace=True)

    def record(self) -> dict[str, Any]:
        """What tells it from another one."""
        return asdict(self)

    def to_pixels(
        self,
        images: Tensor,  # [..., 3, H, W], as the network takes them
    ) -> Tensor:  # uint8 [..., 3, H, W]
        """The inverse of the normalisation, clamped to 0 … 255."""
        mean, std = (images.new_tensor(values).view(3, 1, 1) for values in (self.mean, self.std))
        return ((images * std + mean) * 255).round_().clamp_(0, 255).to(torch.uint8)


def _as_rgb(image: Any) -> Image.Image:
    """A picture, or an array of 8-bit values [H, W], [H, W, 1] or [H, W, 3], as a picture in RGB."""
    from PIL import Image

    if not isinstance(image, Image.Image):
        shape, kind = tuple(getattr(image, "shape", ())), str(getattr(image, "dtype", type(image).__name__))
        if kind != "uint8" or len(shape) not in (2, 3) or shape[2:] not in ((), (1,), (3,)):
            raise ValueError(f"an array {shape} of {kind}, for which only a preprocessing of its own is right")
        image = Image.fromarray(image[..., 0] if shape[2:] == (1,) else image)
    return image if image.mode == "RGB" else image.convert("RGB")

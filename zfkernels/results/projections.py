"""What a projection down to pixels returns."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from zfkernels.windows import Windows


@dataclass(frozen=True)
class Projections:
    """P activations projected down to pixels.

    Attributes:
        layer: the layer that they were taken from.
        windows: pixels, [P, C, h, w] in the model's input units; zero outside the windows.
        image: int64 [P], index of the image in the batch.
        channel: int64 [P], the map.
        position: int64 [P, 2], row and column of the activation in its map (zeros for a layer without maps).
        activation: [P], the value that was projected.
        receptive_field: int64 [P, 4]: top, left, bottom, right in pixels, half-open, clipped to the image.
    """

    layer: str
    windows: Windows
    image: Tensor
    channel: Tensor
    position: Tensor
    activation: Tensor
    receptive_field: Tensor

    def __len__(self) -> int:
        return len(self.image)

    def dense(self) -> Tensor:
        """[P, C, H, W]: each projection on its whole image, zero where nothing was projected."""
        return self.windows.paste()

    def patches(self, images: Tensor) -> list[Tensor]:
        """What each activation saw: the receptive field of each, cut from ``images`` [N, C, H, W]; each [C, h, w]."""
        fields = zip(self.image.tolist(), self.receptive_field.tolist(), strict=True)
        return [images[image, :, top:bottom, left:right] for image, (top, left, bottom, right) in fields]

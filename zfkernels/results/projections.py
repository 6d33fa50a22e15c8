"""What a projection down to pixels returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from zfkernels.results.look import UNKNOWN, Look
from zfkernels.results.result import Result, Variables, plural
from zfkernels.windows import Windows

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False, repr=False)
class Projections(Result):
    """P activations projected down to pixels.

    Attributes:
        layer: the layer that they were taken from.
        windows: pixels in the model's input units, of each activation in the box that it depends on; zero outside.
        image: int64 [P], index of the image in the batch.
        channel: int64 [P], the map.
        position: int64 [P, 2], row and column of the activation in its map (zeros for a layer without maps).
        activation: [P], the value that was projected.
        receptive_field: int64 [P, 4]: top, left, bottom, right in pixels, half-open, clipped to the image.
        look: the colours of the model's inputs, as far as the model says.
    """

    layer: str
    windows: Windows
    image: Tensor
    channel: Tensor
    position: Tensor
    activation: Tensor
    receptive_field: Tensor
    look: Look = UNKNOWN

    def __len__(self) -> int:
        return len(self.image)

    def dense(self) -> Tensor:
        """[P, C, H, W]: each projection on its whole image, zero where nothing was projected."""
        return self.windows.paste()

    def one(self, unit: int) -> Tensor:
        """[C, H, W]: one projection on its whole image."""
        whole = self.windows.values.new_zeros(self.windows.values.shape[1], *self.windows.frame)
        top, left, height, width = self.windows.boxes[unit].tolist()
        whole[:, top : top + height, left : left + width] = self.windows[unit]
        return whole

    def patches(self, images: Tensor) -> list[Tensor]:
        """What each activation saw: the receptive field of each, cut from ``images`` [N, C, H, W]; each [C, h, w]."""
        fields = zip(self.image.tolist(), self.receptive_field.tolist(), strict=True)
        return [images[image, :, top:bottom, left:right] for image, (top, left, bottom, right) in fields]

    def plot(
        self,
        images: Tensor | None = None,  # [N, C, H, W]
        *,
        count: int = 9,
        preprocess: Any = None,
        names: Sequence[str] = (),
    ) -> Figure:
        """A figure with a row for each image: the photo with the places framed, and projections beside their patches.

        Args:
            images: what was projected; None: the projections alone.
            count: the strongest so many of each image are shown.
            preprocess: as ``OcclusionMap.plot``'s.
            names: of the images.

        Raises:
            ValueError: images of another number than the projections name.
        """
        from zfkernels.viz.projections import projections_figure

        return projections_figure(self, images, count=count, preprocess=preprocess, names=tuple(names))

    def headline(self) -> str:
        """The result in one line."""
        images, maps = len(self.image.unique()), len(self.channel.unique())
        height, width = self.windows.frame
        return (
            f"{plural(len(self), 'projection')} of {self.layer} to {height} x {width} pixels, from "
            f"{plural(images, 'image')} and {plural(maps, 'map')}"
        )

    def overview(self) -> list[dict[str, Any]]:
        """A row for each projection."""
        names = ("image", "channel", "row", "column", "activation")
        columns = self.columns()
        return [dict(zip(names, row, strict=True)) for row in zip(*(columns[name] for name in names), strict=True)]

    def variables(self) -> Variables:
        """The tensors by name, with the names of their dimensions; ``pixels`` are the projections on whole images."""
        return {
            "pixels": (("projection", "color", "row", "column"), self.dense()),
            "image": (("projection",), self.image),
            "channel": (("projection",), self.channel),
            "position": (("projection", "place"), self.position),
            "activation": (("projection",), self.activation),
            "receptive_field": (("projection", "side"), self.receptive_field),
        }

    def coordinates(self) -> Mapping[str, Sequence[Any]]:
        """What position and receptive_field hold."""
        return {"place": ("row", "column"), "side": ("top", "left", "bottom", "right")}

    def columns(self) -> Mapping[str, Sequence[Any]]:
        """A line for each projection."""
        sides = dict(zip(("top", "left", "bottom", "right"), self.receptive_field.unbind(1), strict=True))
        found = {
            "image": self.image, "channel": self.channel, "row": self.position[:, 0], "column": self.position[:, 1],
            "activation": self.activation, **sides,
        }  # fmt: skip
        return {name: values.tolist() for name, values in found.items()}

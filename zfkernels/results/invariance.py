"""What a study of invariance returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from zfkernels.results.result import Result, Variables, plural

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False, repr=False)
class Invariance(Result):
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
    def stability(self) -> Tensor:
        """float64 [L, N]: 1 minus the mean relative distance over all amounts; 1: the layer does not notice."""
        return 1 - self.relative.mean(0)

    def by_class(self) -> dict[int, Tensor]:
        """For each class among ``targets`` its mean ``stability``, float64 [L]."""
        classes = self.targets.unique().tolist()
        return {label: self.stability[:, self.targets == label].mean(1) for label in classes}

    @property
    def kept(self) -> Tensor:
        """[N]: the mean probability of the class over all amounts, as a share of that for the original."""
        return self.probability.mean(0) / self.clean.clamp(min=torch.finfo(self.clean.dtype).tiny)

    def plot(self, names: Sequence[str] = ()) -> Figure:
        """Distances at each layer and the probability of the class by amount; ``names`` of the images."""
        from zfkernels.viz import invariance_figure

        return invariance_figure([self], {}, names or [f"image {n}" for n in range(len(self.targets))])

    def headline(self) -> str:
        """The result in one line."""
        first, last = float(self.amounts[0]), float(self.amounts[-1])
        return (
            f"{self.transform} from {first:g} to {last:g} in {plural(len(self.amounts), 'amount')}, "
            f"{plural(len(self.targets), 'image')}, {plural(len(self.layers), 'layer')}"
        )

    def overview(self) -> list[dict[str, Any]]:
        """A row for each layer: 1: it does not notice, 0: it moves as far as to another image."""
        stability = self.stability.mean(1).tolist()
        return [
            {"layer": layer, "stability": stability[n], "distance between images": float(self.reference[n]),
             "probability kept": float(self.kept.mean())}
            for n, layer in enumerate(self.layers)
        ]  # fmt: skip

    def variables(self) -> Variables:
        """The tensors by name, with the names of their dimensions."""
        return {
            "distance": (("amount", "layer", "image"), self.distance),
            "reference": (("layer",), self.reference),
            "probability": (("amount", "image"), self.probability),
            "clean": (("image",), self.clean),
            "targets": (("image",), self.targets),
        }

    def coordinates(self) -> Mapping[str, Sequence[Any]]:
        """Amounts and layers."""
        return {"amount": self.amounts.tolist(), "layer": self.layers}

    def columns(self) -> Mapping[str, Sequence[Any]]:
        """A line for each amount, layer and image."""
        amounts, layers, images = self.distance.shape
        found = {
            "amount": self.amounts.repeat_interleave(layers * images),
            "image": torch.arange(images).repeat(amounts * layers),
            "class": self.targets.repeat(amounts * layers),
            "distance": self.distance.flatten(),
            "relative": self.relative.flatten(),
            "probability": self.probability[:, None].expand(-1, layers, -1).flatten(),
        }
        names = [layer for _ in range(amounts) for layer in self.layers for _ in range(images)]
        return {"layer": names, **{name: values.tolist() for name, values in found.items()}}

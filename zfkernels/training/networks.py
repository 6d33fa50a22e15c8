"""Freshly drawn networks in the form in which they are trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from zfkernels.models import ConvNet, alexnet2012, zfnet, zfnet64, zfnet_large
from zfkernels.models.zfnet64 import MAPS, UNITS


@dataclass(frozen=True)
class Variant:
    """One row of the table: what differs from ``zfnet64``, and the row of the paper's that it stands for.

    Attributes:
        title: In words.
        maps: Feature maps of the convolutions, at scale 1.
        units: Units of layers 6 and 7, at scale 1.
        first_filter, strides: As of ``zfnet64``.
        paper: Error in percent of the paper's network: train top-1, val top-1, val top-5; None: not in its table.
    """

    title: str
    maps: tuple[int, ...] = MAPS
    units: tuple[int, ...] = UNITS
    first_filter: int = 7
    strides: tuple[int, int] = (2, 1)
    paper: tuple[float, float, float] | None = None

    def network(self, num_classes: int, scale: float = 1.0) -> ConvNet:
        """Freshly drawn, in the training form, with all maps and units multiplied by ``scale``."""
        maps, units = (tuple(max(1, round(n * scale)) for n in numbers) for numbers in (self.maps, self.units))
        return zfnet64(
            num_classes, maps=maps, units=units, first_filter=self.first_filter, strides=self.strides,
            training_form=True,
        )  # fmt: skip


NETWORKS: dict[str, Callable[..., ConvNet]] = {
    "zfnet64": zfnet64,
    "zfnet": zfnet,
    "zfnet_large": zfnet_large,
    "alexnet2012": alexnet2012,
}


def new_network(name: str, num_classes: int, *, scale: float = 1.0) -> ConvNet:
    """A network of the package to be trained: ``zfnet64`` in its training form, the others as the paper has them.

    Args:
        name: One of ``NETWORKS``.
        num_classes: Outputs of the last layer.
        scale: Multiplies the maps and units of ``zfnet64``: a smaller network, trained sooner.

    Raises:
        ValueError: No such network, or a ``scale`` other than 1 for another one than ``zfnet64``.
    """
    if name not in NETWORKS:
        raise ValueError(f"new_network: expected name one of {', '.join(NETWORKS)}, got {name!r}")
    if name == "zfnet64":
        return Variant("zfnet64").network(num_classes, scale)
    if scale != 1:
        raise ValueError(f"new_network: expected scale 1 for {name}, got {scale}")
    return NETWORKS[name](num_classes)

"""What a diagnosis of a network's filters returns."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class FilterDiagnosis:
    """The filters of one convolution with C maps, and what they do on N images.

    Attributes:
        layer: Name of the convolution.
        observed: Name of the layer whose values were counted: the rectifier behind it, if there is one.
        rms: float64 [C], the root mean square of each filter's weights.
        active: float64 [C], the share of images in which the map is above 0 somewhere.
        strength: float64 [C], the mean over images of the map's sum of values above 0.
        duplicates: int64 [D, 2], pairs of filters whose cosine is at least ``DUPLICATE``.
    """

    DEAD = 0.0
    DOMINATES = 3.0  # times the median
    DUPLICATE = 0.95

    layer: str
    observed: str
    rms: Tensor
    active: Tensor
    strength: Tensor
    duplicates: Tensor

    @property
    def dead(self) -> Tensor:
        """bool [C]: never above 0 in any image."""
        return self.active <= self.DEAD

    @property
    def dominating(self) -> Tensor:
        """bool [C]: the root mean square of the weights is more than ``DOMINATES`` times the median one."""
        return self.rms > self.DOMINATES * self.rms.median()

    @property
    def concentration(self) -> float:
        """The share of the layer's total strength that its strongest tenth of maps (at least one) has."""
        count = max(1, round(len(self.strength) / 10))
        return float(self.strength.topk(count).values.sum() / self.strength.sum())


@dataclass(frozen=True)
class Diagnosis:
    """The health of a network's filters.

    Attributes:
        layers: One for each convolution, in order.
        filters: [C, channels, k, k], the filters of the first one.
        stride: (rows, columns) of the first one.
        bands: float64 [C, 3], the share of each first-layer filter's power, its mean included, in low, middle and high
            frequencies: thirds of the range up to half a cycle per pixel, by distance from zero.
        flat: float64 [3], what a filter of white noise would have.
        aliased: float64 [C], the share of each first-layer map's power, taken at stride 1 on the images without its
            mean, that lies beyond what its stride can represent, and so turns up as false low frequencies above.
        shift_variation: float64 [C2], of the second convolution's maps: the standard deviation of the map's mean over
            shifts of the image by less than the layer's step, over that mean; 0 without aliasing.
        second: Name of the layer that ``shift_variation`` is of; None for a network with one convolution.
    """

    layers: tuple[FilterDiagnosis, ...]
    filters: Tensor
    stride: tuple[int, int]
    bands: Tensor
    flat: Tensor
    aliased: Tensor
    shift_variation: Tensor
    second: str | None

    @property
    def power_by_band(self) -> Tensor:
        """float64 [3]: the mean of ``bands`` over the filters that have any weight."""
        used = self.bands.sum(1) > 0
        return self.bands[used].mean(0)

    @property
    def prevailing(self) -> Tensor:
        """int64 [C]: the band in which each filter exceeds white noise most: 0 low, 1 middle, 2 high."""
        return (self.bands / self.flat).argmax(1)

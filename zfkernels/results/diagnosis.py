"""What a diagnosis of a network's filters returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from zfkernels.results.result import Result, Variables, plural

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False, repr=False)
class FilterDiagnosis(Result):
    """The filters of one convolution with C maps, and what they do on N images.

    Attributes:
        layer: Name of the convolution.
        observed: Name of the layer whose values were counted: the rectifier behind it, if there is one.
        rms: float64 [C], the root mean square of each filter's weights.
        active: float64 [C], the share of images in which the map is above 0 somewhere.
        strength: float64 [C], the mean over images of the map's sum of values above 0.
        duplicates: int64 [D, 2], pairs of filters whose cosine is at least ``DUPLICATE``.
    """

    DEAD: ClassVar[float] = 0.0
    DOMINATES: ClassVar[float] = 3.0  # times the median
    DUPLICATE: ClassVar[float] = 0.95

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

    def headline(self) -> str:
        """The result in one line."""
        counts = f"{int(self.dead.sum())} dead, {int(self.dominating.sum())} dominating"
        return f"{plural(len(self.rms), 'filter')} of {self.layer}: {counts}, {len(self.duplicates)} duplicate pairs"

    def overview(self) -> list[dict[str, Any]]:
        """A row for each filter."""
        columns = self.columns()
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def variables(self) -> Variables:
        """The tensors by name, with the names of their dimensions."""
        filters = {name: getattr(self, name) for name in ("rms", "active", "strength")}
        found = {name: (("map",), values) for name, values in filters.items()}
        return {**found, "duplicates": (("pair", "filter_of_pair"), self.duplicates)}

    def columns(self) -> Mapping[str, Sequence[Any]]:
        """A line for each filter."""
        found = {
            "rms": self.rms, "active": self.active, "strength": self.strength, "dead": self.dead,
            "dominating": self.dominating,
        }  # fmt: skip
        count = len(self.rms)
        return {"map": range(count), **{name: values.tolist() for name, values in found.items()}}


@dataclass(frozen=True, eq=False, repr=False)
class Diagnosis(Result):
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

    def plot(self, name: str = "") -> Figure:
        """First-layer filters, their frequencies, what aliases, and the activity of all layers; ``name``: its title."""
        from zfkernels.viz import diagnosis_figure

        return diagnosis_figure({name: self})

    def headline(self) -> str:
        """The result in one line."""
        dead = sum(int(layer.dead.sum()) for layer in self.layers)
        total = sum(len(layer.rms) for layer in self.layers)
        return (
            f"{plural(len(self.layers), 'convolution')}, {dead} of {total} filters dead; the first layer's stride "
            f"aliases {float(self.aliased.mean()):.0%} of its power"
        )

    def overview(self) -> list[dict[str, Any]]:
        """A row for each convolution."""
        return [
            {
                "layer": layer.layer, "filters": len(layer.rms), "dead": int(layer.dead.sum()),
                "dominating": int(layer.dominating.sum()), "duplicate pairs": len(layer.duplicates),
                "largest RMS": float(layer.rms.max()), "median RMS": float(layer.rms.median()),
            }
            for layer in self.layers
        ]  # fmt: skip

    def variables(self) -> Variables:
        """The tensors by name, a layer's with its name; each layer has dimensions of its own."""
        found: dict[str, tuple[tuple[str, ...], Tensor]] = {
            "filters": (("filter", "channel", "row", "column"), self.filters),
            "bands": (("filter", "band"), self.bands),
            "flat": (("band",), self.flat),
            "aliased": (("filter",), self.aliased),
            "shift_variation": (("map_of_second",), self.shift_variation),
        }
        for layer in self.layers:
            for name, (dims, values) in layer.variables().items():
                found[f"{name} of {layer.layer}"] = tuple(f"{dim} of {layer.layer}" for dim in dims), values
        return found

    def coordinates(self) -> Mapping[str, Sequence[Any]]:
        """The bands by name."""
        return {"band": ("low", "middle", "high")}

    def columns(self) -> Mapping[str, Sequence[Any]]:
        """A line for each filter of each convolution; the spectrum of the first one's."""
        tables = [layer.columns() for layer in self.layers]
        first = len(self.filters)
        rest = sum(len(table["map"]) for table in tables) - first
        names = [layer.layer for layer, table in zip(self.layers, tables, strict=True) for _ in table["map"]]
        found: dict[str, Sequence[Any]] = {"layer": names}
        found |= {name: [value for table in tables for value in table[name]] for name in tables[0]}
        unknown = [float("nan")] * rest
        spectrum = torch.cat([self.bands, self.aliased[:, None]], 1)
        for name, values in zip(("low", "middle", "high", "aliased"), spectrum.T, strict=True):
            found[name] = values.tolist() + unknown
        return found

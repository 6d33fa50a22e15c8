"""What a correspondence analysis returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from zfkernels.results.result import Result, Variables, plural

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False, repr=False)
class Correspondence(Result):
    """How alike the features of N images change when the same part of each is masked; lower is more alike.

    Attributes:
        layers: L names.
        parts: The P parts, random ones last.
        pairs: For each part float64 [draws, L, N (N - 1) / 2], the distance of each pair of images: the share of units
            whose change has another sign. One draw for a part that is known, several for a random one.
    """

    layers: tuple[str, ...]
    parts: tuple[str, ...]
    pairs: dict[str, Tensor]

    def mean(self, part: str) -> Tensor:
        """float64 [L]: over all pairs and draws; the paper's delta divided by N (N - 1) and by the dimension."""
        return self.pairs[part].mean((0, 2))

    def std(self, part: str) -> Tensor:
        """float64 [L]: the standard deviation over pairs and draws."""
        return self.pairs[part].transpose(0, 1).flatten(1).std(1)

    def share_below(self, part: str, random: str) -> Tensor:
        """float64 [L]: the share of random draws whose mean is at most that of ``part``."""
        return (self.pairs[random].mean(2) <= self.mean(part)).double().mean(0)

    def plot(self, name: str = "") -> Figure:
        """The mean sign distance of each part by layer, with its standard deviation over pairs; ``name``: its title."""
        from zfkernels.viz import correspondence_figure

        return correspondence_figure({name: self})

    def headline(self) -> str:
        """The result in one line."""
        pairs = next(iter(self.pairs.values())).shape[2] if self.pairs else 0
        parts, layers, images = (plural(*of) for of in ((len(self.parts), "part"), (len(self.layers), "layer"),
                                                        (pairs, "pair")))  # fmt: skip
        return f"{parts} masked, {layers}, {images} of images; lower is more alike"

    def overview(self) -> list[dict[str, Any]]:
        """A row for each layer, the mean distance of each part."""
        means = {part: self.mean(part).tolist() for part in self.parts}
        return [
            {"layer": layer, **{part: means[part][n] for part in self.parts}} for n, layer in enumerate(self.layers)
        ]

    def variables(self) -> Variables:
        """The distances of each part, by its name."""
        return {
            part: ((f"draw of {part}" if len(pairs) > 1 else "draw", "layer", "pair"), pairs)
            for part, pairs in self.pairs.items()
        }

    def coordinates(self) -> Mapping[str, Sequence[Any]]:
        """The layers by name."""
        return {"layer": self.layers}

    def columns(self) -> Mapping[str, Sequence[Any]]:
        """A line for each part, layer, draw and pair of images."""
        found: dict[str, list[Any]] = {"part": [], "layer": [], "draw": [], "pair": [], "distance": []}
        for part, pairs in self.pairs.items():
            for draw, of_layers in enumerate(pairs.tolist()):
                for layer, distances in zip(self.layers, of_layers, strict=True):
                    found["part"] += [part] * len(distances)
                    found["layer"] += [layer] * len(distances)
                    found["draw"] += [draw] * len(distances)
                    found["pair"] += range(len(distances))
                    found["distance"] += distances
        return found

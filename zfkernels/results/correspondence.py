"""What a correspondence analysis returns."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Correspondence:
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

"""The questions that the page asks of a network and a photo; answers are tensors and what JSON can hold.

All of it runs in one thread at a time, the worker's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from zfkernels.results import probabilities
from zfkernels.serve.budget import Budget
from zfkernels.serve.network import CleanPass, Network
from zfkernels.serve.photos import Photo

CLEAN_BYTES = 1 << 29  # of clean passes that are kept
BEST = 5  # classes that are listed


@dataclass(frozen=True)
class Square:
    """What is hidden of a photo: first row, first column and side, in pixels of the image that the network sees."""

    top: int
    left: int
    side: int


@dataclass(frozen=True)
class Unit:
    """One activation of a photo, projected.

    Attributes:
        pixels: float [3, H, W], the projection in the image's frame.
        facts: Layer, map, row, column, activation, receptive field (top, left, bottom, right; half-open).
    """

    pixels: Tensor
    facts: dict[str, Any]


class Explorer:
    """One network and the clean passes over the photos that were looked at last.

    Args:
        network: To look at.
        budget: Bytes of clean passes that are kept.
    """

    def __init__(self, network: Network, budget: int = CLEAN_BYTES) -> None:
        self.network = network
        self._passes: Budget[CleanPass] = Budget(budget)

    @property
    def held(self) -> int:
        """Bytes of the clean passes that are held."""
        return self._passes.used

    def clean(self, photo: Photo) -> CleanPass:
        """The clean pass over a photo, kept from the last time or made now."""
        found = self._passes.get(photo.id)
        if found is None:
            found = self.network.clean(photo.image)
            self._passes.put(photo.id, found, found.size)
        return found

    def answers(self, photo: Photo) -> list[dict[str, Any]] | None:
        """The most probable classes of a photo; None if the network says something else than classes."""
        scores = self.clean(photo).scores
        return None if scores is None else self._best(_shares(scores))

    def maps(self, photo: Photo, layer: str) -> list[list[Any]]:
        """Of each map of a layer: channel, strongest value, its row and column, mean."""
        self.network.check_layer(layer)
        maps = self.clean(photo).maps(layer)
        flat = maps.flatten(1).float()
        best = flat.argmax(1)
        values = flat.gather(1, best[:, None])[:, 0]
        columns = (_finite(values), (best // maps.shape[2]).tolist(), (best % maps.shape[2]).tolist())
        return [list(row) for row in zip(range(len(maps)), *columns, _finite(flat.mean(1)), strict=True)]

    def map(self, photo: Photo, layer: str, channel: int) -> Tensor:
        """[h, w]: one map."""
        self.network.check_layer(layer, channel)
        return self.clean(photo).maps(layer)[channel]

    def unit(self, photo: Photo, layer: str, channel: int, place: tuple[int, int] | None) -> Unit:
        """The projection of a map's activation at a place, or at its strongest one.

        Raises:
            ValueError: No such layer, map or place.
        """
        self.network.check_layer(layer, channel)
        clean = self.clean(photo)
        found = clean.forward.project(layer, channels=channel, position="max" if place is None else place)
        row, column = found.position[0].tolist()
        facts = {
            "layer": layer, "map": channel, "row": row, "column": column, "activation": _number(found.activation[0]),
            "field": found.receptive_field[0].tolist(),
        }  # fmt: skip
        return Unit(found.dense()[0], facts)

    def probe(self, photo: Photo, square: Square, layer: str | None, channel: int) -> dict[str, Any]:
        """What the network says with a square of the photo in the mean colour.

        Returns:
            ``best``: the classes that are most probable now; ``usual``: those of the clean photo, as probable as now;
            ``map``: the largest value of the map ``before`` and ``now``, and the value ``there``, at the place that is
            strongest in the clean photo.
        """
        if layer is not None:
            self.network.check_layer(layer, channel)
        clean = self.clean(photo)
        # One dense pass: a sweep of one position starts with a clean pass, which costs as much.
        scores, maps = self.network.again(hide(clean.image, square), layer)
        answer: dict[str, Any] = {"best": None, "usual": None, "map": None}
        if scores is not None and clean.scores is not None:
            now = _shares(scores)
            answer["best"] = self._best(now)
            answer["usual"] = [self._class(entry["class"], now) for entry in self._best(_shares(clean.scores))]
        if layer is not None and maps is not None:
            whole, hidden = clean.maps(layer)[channel].flatten(), maps[channel].flatten()
            answer["map"] = {
                "before": _number(whole.max()), "now": _number(hidden.max()), "there": _number(hidden[whole.argmax()]),
            }  # fmt: skip
        return answer

    def target(self, clean: CleanPass, target: int | None) -> int:
        """The class that is meant: the photo's own where none is.

        Raises:
            ValueError: There is no such class.
        """
        if clean.scores is None:
            raise ValueError("serve: expected no target of a network without classes")
        count = len(clean.scores)
        if target is not None and not 0 <= target < count:
            raise ValueError(f"serve: expected target from 0 to {count - 1}, got {target}")
        return int(clean.scores.argmax()) if target is None else target

    def answer(self, clean: CleanPass, number: int) -> dict[str, Any]:
        """A class, its name, and its probability in the clean photo."""
        assert clean.scores is not None  # of a number that ``target`` returned
        known = self._class(number, _shares(clean.scores))
        return {"class": number, "name": known["name"], "clean": known["probability"]}

    def _best(self, shares: Tensor) -> list[dict[str, Any]]:
        order = shares.nan_to_num(-1).topk(min(BEST, len(shares))).indices.tolist()
        return [self._class(number, shares) for number in order]

    def _class(self, number: int, shares: Tensor) -> dict[str, Any]:
        return {
            "class": number, "name": self.network.class_name(number), "probability": _number(shares[number]),
        }  # fmt: skip


def hide(image: Tensor, square: Square) -> Tensor:
    """A copy of an image [1, 3, H, W] with a square at 0, the mean colour; what hangs over its borders is cut off."""
    hidden = image.clone()
    top, left = max(0, square.top), max(0, square.left)
    hidden[:, :, top : max(0, square.top + square.side), left : max(0, square.left + square.side)] = 0
    return hidden


def _shares(scores: Tensor) -> Tensor:
    """Probabilities [classes] of scores."""
    return probabilities(scores[None].float())[0]


def _number(value: Any) -> float | None:
    """A number for JSON, which knows neither NaN nor infinity."""
    number = float(value)
    return number if math.isfinite(number) else None


def _finite(values: Tensor) -> Sequence[float | None]:
    return [value if math.isfinite(value) else None for value in values.tolist()]

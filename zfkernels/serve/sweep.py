"""An occlusion sweep in pieces, so that it can be drawn while it is computed, and stopped."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import zfkernels
from zfkernels.serve.explorer import Explorer
from zfkernels.serve.photos import Photo

FIRST, FEWEST, MOST = 48, 48, 1024  # positions of a piece
PIECE = 0.25  # seconds that a piece should take, so that other questions wait no longer
STEPS = 64  # positions along a side, at most


@dataclass(frozen=True)
class SweepOptions:
    """What is asked for: a square of ``window`` pixels moved by ``stride``; of a class, or of the sum of a map.

    ``layer`` None: the probability of the class ``target``, or of the photo's own class if that is None.
    """

    window: int
    stride: int
    target: int | None = None
    layer: str | None = None
    channel: int = 0


def plan(explorer: Explorer, photo: Photo, options: SweepOptions) -> dict[str, Any]:
    """What a sweep will be: rows, columns, total, window, stride, the class or map, and its value for the clean photo.

    Raises:
        ValueError: A window or stride that does not fit, no such class or map.
    """
    network, side = explorer.network, explorer.network.size[0]
    if not 1 <= options.window <= side:
        raise ValueError(f"serve: expected window from 1 to {side}, got {options.window}")
    rows, columns = (_steps(length, options) for length in network.size)
    if options.stride < 1 or max(rows, columns) > STEPS:
        raise ValueError(f"serve: expected stride for at most {STEPS} places along a side, got {options.stride}")
    clean = explorer.clean(photo)
    told: dict[str, Any] = {
        "rows": rows, "columns": columns, "total": rows * columns, "window": options.window, "stride": options.stride,
    }  # fmt: skip
    if options.layer is None:
        target = explorer.target(clean, options.target)
        return {**told, **explorer.answer(clean, target)}
    network.check_layer(options.layer, options.channel)
    total = float(clean.maps(options.layer)[options.channel].sum())
    return {**told, "layer": options.layer, "map": options.channel, "clean": total}


def pieces(explorer: Explorer, photo: Photo, options: SweepOptions) -> Iterator[list[float]]:
    """The values at the places of the square, row by row, each piece computed when it is asked for."""
    network = explorer.network
    clean = explorer.clean(photo)
    places = grid(network.size, options)
    target = None if options.layer is not None else explorer.target(clean, options.target)
    units = None if options.layer is None else [options.channel]
    start, count = 0, FIRST
    while start < len(places):
        began = time.perf_counter()
        swept = zfkernels.occlusion_sweep(
            network.model, clean.image, window=options.window, positions=places[start : start + count],
            layer=options.layer, units=units, backend=network.backend,
        )  # fmt: skip
        yield (swept.activity[0, :, 0] if target is None else swept.probability(target)[0]).float().tolist()
        start += count
        count = _next_count(count, time.perf_counter() - began)


def grid(size: tuple[int, int], options: SweepOptions) -> Tensor:
    """Places of the square, int64 [P, 2] (row, column), row by row; the last of a row or column may hang over."""
    rows, columns = (torch.arange(_steps(length, options)) * options.stride for length in size)
    return torch.cartesian_prod(rows, columns).view(-1, 2)


def _steps(length: int, options: SweepOptions) -> int:
    """Places along one side: as Captum's grid."""
    return -(-(length - options.window) // max(1, options.stride)) + 1


def _next_count(count: int, seconds: float) -> int:
    """Positions of the next piece: towards ``PIECE`` seconds, no more than twice as many."""
    return min(max(round(count * min(2.0, PIECE / max(seconds, 1e-6))), FEWEST), MOST)

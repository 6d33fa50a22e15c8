"""A small result of each kind."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from zfkernels.results import (
    Correspondence,
    Diagnosis,
    Evolution,
    FilterDiagnosis,
    Invariance,
    LayerEvolution,
    LayerProbe,
    Look,
    OcclusionMap,
    Projections,
    Result,
    Transfer,
)
from zfkernels.windows import Windows


def values(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def shares(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def occlusion(**changes: Any) -> OcclusionMap:
    """Two images of 8 x 10 under a square of 4 x 4, whose own classes differ."""
    rows, columns = torch.tensor([0, 2]), torch.tensor([0, 2, 4])
    fields: dict[str, Any] = {
        "positions": torch.stack(torch.meshgrid(rows, columns, indexing="ij"), -1),
        "window": (4, 4),
        "outputs": values(2, 2, 3, 3),
        "clean": torch.tensor([[0.5, 2.0, -1.0], [0.0, 0.25, 1.0]]),
    }
    return OcclusionMap(**(fields | changes))


def watched(count: int = 1, classes: int = 9) -> OcclusionMap:
    """A sweep of images of 24 x 24 with a layer, names and colours, on a grid of 6 x 6."""
    steps = torch.arange(6) * 4
    return OcclusionMap(
        torch.stack(torch.meshgrid(steps, steps, indexing="ij"), -1), (6, 6), 2 * values(count, 6, 6, classes),
        2 * values(count, classes, seed=1), channel=torch.arange(count) * 7, activity=values(count, 6, 6).exp(),
        look=Look((0.4, 0.5, 0.6), (0.2, 0.2, 0.2), tuple(f"a rather long name of class {n}" for n in range(classes))),
    )  # fmt: skip


def projections(images: int = 2, maps: int = 3) -> Projections:
    """Projections of ``maps`` maps in each of some images of 24 x 24, in windows of 10 x 10."""
    count = images * maps
    origins = torch.tensor([[n % 5 * 3, n % 4 * 4] for n in range(count)], dtype=torch.int32)
    image = torch.arange(images).repeat_interleave(maps)
    field = torch.cat([origins, origins + 10], 1).long()
    windows = Windows.of(values(count, 3, 10, 10), origins, image, (24, 24))
    return Projections("features.3", windows, image, torch.arange(maps).repeat(images), origins.long() // 2,
                       values(count).abs(), field, Look((0.5,) * 3, (0.25,) * 3))  # fmt: skip


def invariance(transform: str = "rotation", images: int = 7) -> Invariance:
    amounts = torch.arange(0, 360, 45).double()
    return Invariance(transform, amounts, ("features.1", "classifier.4"), 9 * shares(len(amounts), 2, images),
                      torch.tensor([8.0, 11.0]).double(), shares(len(amounts), images).float(),
                      shares(images, seed=1).float(), torch.arange(images) % 3)  # fmt: skip


def correspondence() -> Correspondence:
    parts = {"left eye": 1, "nose": 1, "random": 4, "random, one place": 4}
    pairs = {part: shares(draws, 3, 10, seed=draws) for part, draws in parts.items()}
    return Correspondence(("features.1", "features.4", "classifier.1"), tuple(parts), pairs)


def diagnosis(layers: int = 2) -> Diagnosis:
    sizes = [12, 20, 24, 16, 8, 10, 11, 9, 13, 7, 6][:layers]
    found = []
    for n, count in enumerate(sizes):
        active = shares(count, seed=n)
        active[-1] = 0
        found.append(FilterDiagnosis(str(2 * n), str(2 * n + 1), shares(count, seed=n), active, shares(count) * 5,
                                     torch.tensor([[0, 3]])[: n % 2]))  # fmt: skip
    bands = shares(sizes[0], 3)
    return Diagnosis(tuple(found), values(sizes[0], 3, 5, 5), (2, 2), bands / bands.sum(1, keepdim=True),
                     torch.tensor([0.1, 0.3, 0.6]).double(), shares(sizes[0]) * 0.6, shares(sizes[1]), "2")  # fmt: skip


def evolution(layers: int = 2) -> Evolution:
    epochs, maps = torch.tensor([0, 1, 5, 20]), 4
    found = []
    for n in range(layers):
        image = torch.tensor([[0, 1, 2, -1], [0, 3, 2, -1], [0, 3, 4, 5], [0, 3, 4, 6]])
        tiles = values(4, maps, 3, 9, 9, seed=n)
        tiles[image < 0] = 0
        fixed = shares(4, maps, seed=n)
        found.append(LayerEvolution(f"features.{3 * n + 1}", torch.arange(maps) * 5, image, shares(4, maps) * 3,
                                    torch.zeros(4, maps, 2, dtype=torch.int64), tiles, fixed))  # fmt: skip
    return Evolution(epochs, tuple(found))


def transfer(seed: int = 0, folds: int = 5) -> Transfer:
    return Transfer("softmax", torch.tensor([15, 30]), 0.5 + 0.3 * shares(2, folds, seed=seed), shares(2, 6))


def layer_probe(layers: int = 4) -> LayerProbe:
    return LayerProbe(tuple(f"features.{3 * n + 1}" for n in range(layers)), tuple(map(transfer, range(layers))))


RESULTS: list[Result] = [
    occlusion(), watched(), projections(), invariance(), correspondence(), diagnosis(), evolution(), transfer(),
    layer_probe(), diagnosis().layers[0], evolution().layers[0],
]  # fmt: skip

"""Two squares at once, against the network on every image with both, in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support import zoo
from support.hiding import dense_outputs
from support.toys import TOYS, images, toy
from torch import Tensor

import zfkernels as zf

WINDOW = (5, 4)
# corners, overlapping ones, near ones, far ones
POSITIONS = torch.tensor([[0, 0], [2, 3], [9, 8], [11, 20], [12, 23], [22, 29]])


@torch.no_grad()
def truth(model: Any, x: Tensor, pairs: Tensor, positions: Tensor, window: tuple[int, int], fill: float) -> Tensor:
    rows = []
    for image in x:
        both = image.repeat(len(pairs), 1, 1, 1)
        for k, pair in enumerate(pairs.tolist()):
            for top, left in positions[pair].tolist():
                both[k, :, top : top + window[0], left : left + window[1]] = fill
        rows.append(model(both))
    return torch.stack(rows)


def assert_exact(model: Any, x: Tensor, positions: Tensor, window: tuple[int, int], **arguments: Any) -> None:
    found = zf.occlusion_pairs(model, x, window=window, positions=positions, fill=0.6, **arguments)
    expected = truth(model, x, found.pairs, positions, window, 0.6)
    singles, clean = dense_outputs(model, x, positions, window, 0.6)
    effect = (expected - clean[:, None]).abs().amax()
    assert effect > 1e-4 * clean.abs().amax()
    assert (found.outputs - expected).abs().amax() <= 1e-8 * effect
    assert (found.singles - singles).abs().amax() <= 1e-8 * effect
    first, second = found.pairs.T
    interaction = expected - singles[:, first] - singles[:, second] + clean[:, None]
    assert (found.interaction() - interaction).abs().amax() <= 4e-8 * effect
    assert interaction.abs().amax() > 1e-6 * effect


@pytest.mark.parametrize("name", TOYS)
def test_a_small_network(name: str) -> None:
    assert_exact(toy(name), images(2), POSITIONS, WINDOW)


@pytest.mark.parametrize("name", ["alexnet", "resnet18", "squeezenet1_0"])
def test_a_known_network(name: str) -> None:
    size = zoo.SIZES[name]
    positions = torch.tensor([[0, 0], [size[0] // 3, size[1] // 2], [size[0] // 3 + 8, size[1] // 2 - 9]])
    assert_exact(zoo.network(name), zoo.photos(1, size), positions, (12, 11))


def test_pairs_by_number_and_in_chunks() -> None:
    pairs = torch.tensor([[1, 0], [4, 3], [2, 2]])
    every = zf.occlusion_pairs(toy("residual"), images(1), window=WINDOW, positions=POSITIONS)
    assert len(every.pairs) == 15
    assert_exact(toy("residual"), images(2), POSITIONS, WINDOW, pairs=pairs)
    small = zf.occlusion_pairs(toy("residual"), images(1), window=WINDOW, positions=POSITIONS, memory=40_000)
    torch.testing.assert_close(small.outputs, every.outputs, rtol=1e-12, atol=1e-13)
    alone = zf.occlusion_pairs(toy("residual"), images(1), window=WINDOW, positions=POSITIONS, pairs=pairs[2:])
    torch.testing.assert_close(alone.outputs[:, 0], alone.singles[:, 2], rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"pairs": torch.tensor([[0, 6]])}, ValueError, "pairs of positions from 0 to 5, got some out of range"),
        ({"pairs": torch.tensor([[0.0, 1.0]])}, TypeError, r"pairs an int tensor \[K, 2\], got torch.float32"),
        ({"images": torch.full_like(images(1), torch.nan)}, ValueError, "images of finite values, got NaN or infinity"),
        ({"pairs": torch.tensor([0, 1])}, ValueError, r"pairs of shape \[K, 2\], at least one, got \(2,\)"),
        ({"model": torch.nn.Conv2d(3, 4, 3).double()}, ValueError, r"model that returns \[N, classes\], got one that"),
    ],
)
def test_refused(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    given = {"model": toy("residual"), "images": images(1), "window": WINDOW, "positions": POSITIONS, **arguments}
    with pytest.raises(error, match=f"occlusion_pairs: expected {message}"):
        zf.occlusion_pairs(given.pop("model"), given.pop("images"), **given)

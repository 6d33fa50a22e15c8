"""Deletion and insertion curves, against a plain loop, in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support import zoo
from support.toys import SIZE, TOYS, images, toy
from torch import Tensor

import zfkernels as zf
from zfkernels.occlusion.turns import TurnChunk

WINDOW, GRID = (7, 9), (4, 4)


@torch.no_grad()
def loop(model: Any, x: Tensor, order: Tensor, shown: Tensor, reveal: bool, window: tuple[int, int]) -> Tensor:
    columns = -(-x.shape[3] // window[1])
    curves = []
    for image, squares, fill in zip(x, order, shown, strict=True):
        state, other = (fill.clone(), image) if reveal else (image.clone(), fill)
        rows = [model(state[None])[0]]
        for square in squares.tolist():
            top, left = square // columns * window[0], square % columns * window[1]
            place = (slice(None), slice(top, top + window[0]), slice(left, left + window[1]))
            state[place] = other[place]
            rows.append(model(state[None])[0])
        curves.append(torch.stack(rows))
    return torch.stack(curves)


def orders(count: int, squares: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.stack([torch.randperm(squares, generator=generator) for _ in range(count)])


def assert_exact(found: Any, expected: Tensor) -> None:
    effect = (expected - expected[:, :1]).abs().amax()
    assert effect > 1e-4 * expected.abs().amax()
    assert found.outputs.shape == expected.shape
    assert (found.outputs - expected).abs().amax() <= 1e-8 * effect


@pytest.mark.parametrize("reveal", [False, True], ids=["deletion", "insertion"])
@pytest.mark.parametrize("name", TOYS)
def test_a_small_network(name: str, reveal: bool) -> None:
    model, x, order = toy(name), images(2), orders(2, 16)
    curve = zf.insertion_curve if reveal else zf.deletion_curve
    found = curve(model, x, order, window=WINDOW, fill=0.3)
    assert_exact(found, loop(model, x, order, torch.full_like(x, 0.3), reveal, WINDOW))
    assert found.grid == GRID


@pytest.mark.parametrize("name", ["alexnet", "resnet18"])
def test_a_known_network_and_a_fill_that_is_an_image(name: str) -> None:
    size = zoo.SIZES[name]
    model, x = zoo.network(name), zoo.photos(2, size)
    window = (size[0] // 4 + 1, size[1] // 3 + 1)
    order, shown = orders(2, 12), x.flip(3)
    for curve, reveal in ((zf.deletion_curve, False), (zf.insertion_curve, True)):
        found = curve(model, x, order, window=window, fill=shown, steps=7)
        assert_exact(found, loop(model, x, order[:, :7], shown, reveal, window))


@pytest.mark.parametrize("reveal", [False, True], ids=["deletion", "insertion"])
def test_steps_that_travel_in_several_chunks(reveal: bool) -> None:
    """Chunks that begin and end in the middle of an image."""
    model, x, order = toy("residual"), images(2), orders(2, 16)
    sizes = []
    curve = zf.insertion_curve if reveal else zf.deletion_curve
    with pytest.MonkeyPatch.context() as patch:
        write = TurnChunk.write
        patch.setattr(TurnChunk, "write", lambda chunk: (sizes.append(len(chunk.image)), write(chunk)))
        found = curve(model, x, order, window=WINDOW, fill=0.3, memory=100_000)
    assert_exact(found, loop(model, x, order, torch.full_like(x, 0.3), reveal, WINDOW))
    assert sizes[0] < 16
    assert 16 % sizes[0]


def test_orders_from_attributions() -> None:
    model, x = toy("residual"), images(2)
    drops = zf.occlusion_sweep(model, x, window=WINDOW).drop(3)
    found = zf.deletion_curve(model, x, drops, window=WINDOW)
    assert torch.equal(found.order, drops.flatten(1).argsort(1, descending=True))
    pixels = torch.zeros(2, *SIZE)
    for square, value in enumerate(drops[0].flatten().tolist()):
        pixels[:, square // 4 * 7 + 3, square % 4 * 9 + 1] = value
    of_pixels = zf.deletion_curve(model, x, pixels[0], window=WINDOW)
    assert torch.equal(of_pixels.order, found.order[:1].expand(2, -1))
    probability = found.outputs.softmax(2)
    torch.testing.assert_close(found.values(3), probability[..., 3])
    each = found.values(torch.tensor([3, 1]), activation=None)
    torch.testing.assert_close(each, torch.stack([found.outputs[0, :, 3], found.outputs[1, :, 1]]))
    sums = (probability[:, 1:, 3] + probability[:, :-1, 3]).sum(1) / 2 / 16
    torch.testing.assert_close(found.area(3), sums)


def test_no_images() -> None:
    found = zf.deletion_curve(toy("residual"), images(1)[:0], torch.arange(16), window=WINDOW)
    assert found.outputs.shape == (0, 17, 7)


def test_the_images_are_left_as_they_were() -> None:
    x = images(1)
    before = x.clone()
    zf.deletion_curve(toy("functional_relu"), x, orders(1, 16), window=WINDOW)
    assert torch.equal(x, before)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"order": torch.zeros(16).long()}, ValueError, "order a permutation of the grid's 16 squares, got another"),
        ({"order": torch.arange(15)}, ValueError, r"order of shape \[16\] or \[1, 16\], got \(15,\)"),
        ({"order": torch.zeros(3, 3)}, ValueError, r"order a map of the grid \(4, 4\) or of the images \(25, 31\)"),
        ({"order": [0, 1]}, TypeError, "order an int or float tensor, got list"),
        ({"images": torch.full_like(images(1), torch.nan)}, ValueError, "images of finite values, got NaN or infinity"),
        ({"memory": 0}, ValueError, "memory a positive int or None, got 0"),
        ({"memory": 100}, ValueError, "memory at least [0-9]+ bytes, which one position takes, got 100"),
        ({"steps": 17}, ValueError, "steps from 1 to 16, got 17"),
        ({"steps": True}, ValueError, "steps from 1 to 16, got True"),
        ({"fill": "blur"}, ValueError, "fill that is the same at all positions, got blur"),
        ({"window": 26}, ValueError, r"window no larger than the images \(25, 31\), got \(26, 26\)"),
        ({"model": torch.nn.Conv2d(3, 4, 3).double()}, ValueError, r"model that returns \[N, classes\], got one that"),
    ],
)
def test_refused(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    given = {"model": toy("residual"), "images": images(1), "order": torch.arange(16), "window": WINDOW, **arguments}
    with pytest.raises(error, match=f"deletion_curve: expected {message}"):
        zf.deletion_curve(given.pop("model"), given.pop("images"), given.pop("order"), **given)

"""Fills, shapes, windows and regions, against the network on every occluded image, in float64."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from support.toys import SIZE, images, toy
from torch import Tensor

import zfkernels as zf
from zfkernels.occlusion.fills import fading

WINDOW = (6, 5)
POSITIONS = torch.tensor([[0, 0], [-3, 2], [4, -4], [21, 28], [11, 13], [24, 30], [-5, -4]])
MODELS = ("residual", "relu_then_norm", "squeeze")  # a convolution first, something else first, whole frames


def covered(position: Tensor, inner: Tensor | None = None) -> Tensor:
    """bool [H, W]: the pixels under a window, of those that ``inner`` [h, w] says."""
    hidden = torch.zeros(SIZE, dtype=torch.bool)
    for row in range(WINDOW[0]):
        for column in range(WINDOW[1]):
            y, x = int(position[0]) + row, int(position[1]) + column
            if 0 <= y < SIZE[0] and 0 <= x < SIZE[1] and (inner is None or inner[row, column]):
                hidden[y, x] = True
    return hidden


@torch.no_grad()
def truth(model: Any, x: Tensor, hidden: Callable[[int, int], Tensor], count: int) -> tuple[Tensor, Tensor]:
    """Outputs [N, P, classes] for the images ``hidden(n, p)`` [C, H, W], and clean ones."""
    rows = [model(torch.stack([hidden(n, p) for p in range(count)])) for n in range(len(x))]
    return torch.stack(rows), model(x.clone())


def assert_exact(found: Any, expected: tuple[Tensor, Tensor]) -> None:
    outputs, clean = expected
    effect = (outputs - clean[:, None]).abs().amax()
    assert effect > 1e-4 * clean.abs().amax()
    assert found.outputs.shape == outputs.shape
    assert (found.outputs - outputs).abs().amax() <= 1e-8 * effect
    assert (found.clean - clean).abs().amax() <= 1e-8 * effect


def sweep(name: str, x: Tensor, **arguments: Any) -> Any:
    return zf.occlusion_sweep(toy(name), x, window=WINDOW, positions=POSITIONS, **arguments)


@pytest.mark.parametrize("name", MODELS)
def test_squares_over_every_border(name: str) -> None:
    x = images(2)
    expected = truth(toy(name), x, lambda n, p: torch.where(covered(POSITIONS[p]), 0.4, x[n]), len(POSITIONS))
    assert_exact(sweep(name, x, fill=0.4), expected)


@pytest.mark.parametrize("shape", ["disc", "mask"])
@pytest.mark.parametrize("fill", ["number", "image", "each"])
@pytest.mark.parametrize("name", MODELS)
def test_shapes(name: str, fill: str, shape: str) -> None:
    x = images(2)
    inner = torch.rand(WINDOW, generator=torch.Generator().manual_seed(1)) < 0.5
    if shape == "disc":
        inner = torch.tensor([
            [((r + 0.5) / 3 - 1) ** 2 + ((c + 0.5) / 2.5 - 1) ** 2 <= 1 for c in range(5)] for r in range(6)
        ])  # fmt: skip
    shown: Any = 0.4 if fill == "number" else torch.randn(3, *SIZE, dtype=torch.float64)
    if fill == "each":
        shown = torch.randn(len(POSITIONS), 3, *WINDOW, dtype=torch.float64)

    def hidden(n: int, p: int) -> Tensor:
        if fill != "each":
            return torch.where(covered(POSITIONS[p], inner), shown, x[n])
        return pasted(x[n], shown[p], POSITIONS[p], inner)

    found = sweep(name, x, fill=shown, shape="disc" if shape == "disc" else inner)
    assert_exact(found, truth(toy(name), x, hidden, len(POSITIONS)))


def pasted(image: Tensor, patch: Tensor, position: Tensor, inner: Tensor | None = None) -> Tensor:
    """The image [C, H, W] with a patch [C, h, w] where ``inner`` says."""
    whole = image.clone()
    for row, column in torch.cartesian_prod(*map(torch.arange, WINDOW)).tolist():
        y, x = int(position[0]) + row, int(position[1]) + column
        if 0 <= y < SIZE[0] and 0 <= x < SIZE[1] and (inner is None or inner[row, column]):
            whole[:, y, x] = patch[:, row, column]
    return whole


@pytest.mark.parametrize("name", MODELS)
def test_the_image_that_fades_out(name: str) -> None:
    x = images(2)
    weight = fading(WINDOW)

    def hidden(n: int, p: int) -> Tensor:
        around = torch.nn.functional.pad(x[n], (8, 8, 8, 8))
        row, column = (POSITIONS[p] + 8).tolist()
        patch = around[:, row : row + WINDOW[0], column : column + WINDOW[1]] * weight
        return pasted(x[n], patch, POSITIONS[p])

    assert_exact(sweep(name, x, fill="blur"), truth(toy(name), x, hidden, len(POSITIONS)))


def test_fading_is_the_formula() -> None:
    weight = fading((4, 3))
    product = [[integral(r - 2, 1.0) * integral(c - 1, 0.75) for c in range(3)] for r in range(4)]
    low, high = min(map(min, product)), max(map(max, product))
    expected = [[(high - value) / (high - low) for value in row] for row in product]
    torch.testing.assert_close(weight, torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-9)
    assert (weight.min(), weight.max(), weight[2, 1]) == (0, 1, 0)
    assert fading((1, 1)).tolist() == [[0.0]]


def integral(distance: float, deviation: float) -> float:
    """Of a normal density around a pixel, by Simpson's rule."""
    steps = 200
    at = [distance - 0.5 + n / steps for n in range(steps + 1)]
    density = [math.exp(-0.5 * (t / deviation) ** 2) / (deviation * math.sqrt(2 * math.pi)) for t in at]
    weights = [1 if n in (0, steps) else 4 if n % 2 else 2 for n in range(steps + 1)]
    return sum(w * d for w, d in zip(weights, density, strict=True)) / (3 * steps)


def test_functions_as_fills() -> None:
    x = images(2)
    by_name: dict[str, tuple[Any, Callable[[Tensor], Any]]] = {
        "median": (lambda image: float(image.median()), lambda image: image.median()),
        "of channels": (lambda image: image.amax((1, 2)), lambda image: image.amax((1, 2))[:, None, None]),
        "flipped": (lambda image: image.flip(2), lambda image: image.flip(2)),
    }
    for fill, shown in by_name.values():
        expected = truth(
            toy("residual"), x, lambda n, p, s=shown: torch.where(covered(POSITIONS[p]), s(x[n]), x[n]), len(POSITIONS)
        )
        assert_exact(sweep("residual", x, fill=fill), expected)
    with pytest.raises(ValueError, match=r"expected fill to return a number, \[3\] or \(3, 25, 31\), got \(2,\)"):
        sweep("residual", x, fill=lambda image: image[:2, 0, 0])


def test_noise_is_the_same_for_the_same_seed() -> None:
    x = images(2)
    first, again, other = (sweep("residual", x, fill=zf.occlusion.noise(seed)) for seed in (1, 1, 2))
    assert torch.equal(first.outputs, again.outputs)
    assert not torch.equal(first.outputs, other.outputs)
    shown = zf.occlusion.noise(1)(torch.randn(3, 200, 200) * 2 + 5)
    torch.testing.assert_close(shown.mean((1, 2)), torch.full((3,), 5.0), rtol=0, atol=0.05)
    torch.testing.assert_close(shown.std((1, 2)), torch.full((3,), 2.0), rtol=0, atol=0.05)
    with pytest.raises(TypeError, match="noise: expected seed an int, got None"):
        zf.occlusion.noise(None)  # type: ignore[arg-type]


def test_several_fills_are_those_one_by_one() -> None:
    x, fills = images(2), [0.0, "mean", "blur", (0.1, 0.2, 0.3), zf.occlusion.noise(3)]
    found = sweep("residual", x, fill=fills)
    alone = [sweep("residual", x, fill=fill) for fill in fills]
    assert found.outputs.shape == (5, 2, len(POSITIONS), 7)
    assert all(torch.equal(a.outputs, b.outputs) for a, b in zip(found.maps, alone, strict=True))
    assert found.names == ("0.0", "mean", "blur", "colour", "noise(3)")
    drops = torch.stack([each.drop(3) for each in alone])
    torch.testing.assert_close(found.mean(3), drops.mean(0))
    torch.testing.assert_close(found.spread(3), ((drops - drops.mean(0)) ** 2).mean(0).sqrt())
    scipy = pytest.importorskip("scipy.stats")
    agreement = found.agreement(3)
    for n in range(2):
        expected = scipy.spearmanr(drops[:, n].T.numpy()).statistic
        torch.testing.assert_close(agreement[n], torch.from_numpy(expected), rtol=1e-9, atol=1e-9)
    assert found.variables()["outputs"][0][0] == "fill"
    assert len(found.overview()) == 10
    colours = sweep("residual", x, fill=torch.tensor([[0.0, 0, 0], [0.1, 0.2, 0.3]]))
    assert torch.equal(colours.outputs[1], found.outputs[3])


def test_the_clean_pass_is_shared_by_several_fills(monkeypatch: pytest.MonkeyPatch) -> None:
    passes = []
    clean = zf.occlusion.WindowSweep.clean
    monkeypatch.setattr(
        zf.occlusion.WindowSweep, "clean", lambda self, x: passes.append(len(x)) or clean(self, x)
    )  # fmt: skip
    sweep("residual", images(2), fill=[0.0, 1.0, "mean"])
    assert passes == [2]


@pytest.mark.parametrize("name", MODELS)
def test_windows_of_different_sizes(name: str) -> None:
    x, windows = images(2), torch.tensor([[0, 0, 3, 9], [-2, 5, 8, 4], [20, 20, 30, 30], [7, 7, 1, 1]])

    def hidden(n: int, p: int) -> Tensor:
        top, left, height, width = windows[p].tolist()
        image = x[n].clone()
        image[:, max(top, 0) : top + height, max(left, 0) : left + width] = 0.4
        return image

    found = zf.occlusion_sweep(toy(name), x, windows=windows, fill=0.4)
    assert_exact(found, truth(toy(name), x, hidden, len(windows)))
    assert torch.equal(found.boxes, windows)
    assert found.window == (30, 30)


def labels(count: int) -> Tensor:
    """Regions of odd shapes, int64 [count, H, W], labels from 2 to 6."""
    generator = torch.Generator().manual_seed(5)
    coarse = torch.randint(2, 7, (count, 1, 7, 9), generator=generator).double()
    return torch.nn.functional.interpolate(coarse, SIZE, mode="nearest")[:, 0].long()


@pytest.mark.parametrize("of_each", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_regions(name: str, of_each: bool) -> None:
    x, regions = images(2), labels(2)
    regions[1][regions[1] == 4] = 5  # the second image has no region 4
    given = regions if of_each else regions[0]

    def hidden(n: int, p: int) -> Tensor:
        return torch.where((given[n] if of_each else given) == p + 2, 0.4, x[n])

    found = zf.occlusion_sweep(toy(name), x, regions=given, fill=0.4, layer="top")
    assert_exact(found, truth(toy(name), x, hidden, 5))
    assert found.activity.shape == (2, 5)
    if of_each:
        torch.testing.assert_close(found.outputs[1, 2], found.clean[1], rtol=1e-12, atol=1e-12)
        assert found.boxes.shape == (2, 5, 4)
    fills = zf.occlusion_sweep(toy(name), x, regions=given, fill=[x.flip(3), 0.4])
    assert torch.equal(fills.maps[1].outputs, found.outputs)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"window": 4, "windows": torch.ones(1, 4).long()}, ValueError, "one of window, windows and regions, got"),
        ({}, ValueError, "one of window, windows and regions, got none"),
        ({"windows": torch.ones(2, 3).long()}, ValueError, "windows of shape [P, 4], at least one, got (2, 3)"),
        ({"windows": torch.ones(2, 4)}, TypeError, "windows an int tensor [P, 4], got torch.float32"),
        ({"windows": torch.tensor([[40, 0, 3, 3]])}, ValueError, "windows inside the images (25, 31), got some"),
        ({"window": 4, "positions": torch.tensor([[-4, 0]])}, ValueError, "positions inside the images (25, 31), got"),
        ({"regions": torch.ones(24, 31).long()}, ValueError, "regions of the images' size (25, 31), got (24, 31)"),
        ({"regions": torch.ones(3, 25, 31).long()}, ValueError, "regions of 1 images, got 3"),
        ({"regions": torch.ones(25, 31)}, TypeError, "regions an int tensor [H, W] or [N, H, W], got torch.float32"),
        ({"window": 4, "shape": "star"}, TypeError, "shape 'square', 'disc' or a bool tensor [h, w], got 'star'"),
        ({"window": 4, "shape": torch.ones(3, 4).bool()}, ValueError, "shape of the window's size (4, 4), got (3, 4)"),
        ({"regions": torch.ones(25, 31).long(), "stride": 2}, ValueError, "stride or positions with window alone"),
        ({"regions": torch.ones(25, 31).long(), "fill": "blur"}, ValueError, "fill='blur' with windows of one size"),
        ({"window": 4, "memory": 10}, ValueError, "memory at least"),
        ({"window": 4, "memory": 0}, ValueError, "memory a positive int or None, got 0"),
    ],
)  # fmt: skip
def test_refused(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error) as refusal:
        zf.occlusion_sweep(toy("residual"), images(1), **arguments)
    assert str(refusal.value).startswith("occlusion_sweep: expected ")
    assert message in str(refusal.value)


def test_a_budget_of_memory_decides_the_chunk_which_is_recorded() -> None:
    x = images(2)
    whole = zf.occlusion_sweep(toy("residual"), x, window=WINDOW, stride=4)
    small = zf.occlusion_sweep(toy("residual"), x, window=WINDOW, stride=4, memory=200_000)
    assert whole.batch_size == 2 * whole.positions[..., 0].numel()
    assert 1 <= small.batch_size < whole.batch_size
    torch.testing.assert_close(small.outputs, whole.outputs, rtol=1e-12, atol=1e-13)
    again = zf.occlusion_sweep(toy("residual"), x, window=WINDOW, stride=4, memory=200_000)
    assert small == again

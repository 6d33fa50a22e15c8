"""Invariance: the transformations against exact cases, the distances against loops, the command."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from torch import Tensor, nn

from zfkernels.analysis.invariance import AMOUNTS, TRANSFORMS, invariance, transform_images
from zfkernels.cli.app import app

BLACK, WHITE = torch.tensor([-2.0, -1.8, -1.5]), torch.tensor([2.0, 2.2, 2.5])


def tiny() -> nn.Module:
    """What ``--model test_invariance:tiny`` names."""
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5), nn.ReLU(),
        nn.Linear(5, 6),
    ).eval()  # fmt: skip


def test_translation_moves_pixels_and_fills() -> None:
    images = torch.rand(2, 3, 7, 9)
    down = transform_images(images, "vertical", 2, fill=-1.0)
    torch.testing.assert_close(down[:, :, 2:], images[:, :, :5])
    torch.testing.assert_close(down[:, :, :2], torch.full((2, 3, 2, 9), -1.0))
    left = transform_images(images, "horizontal", -3)
    torch.testing.assert_close(left[..., :6], images[..., 3:])
    torch.testing.assert_close(left[..., 6:], torch.zeros(2, 3, 7, 3))


def test_rotation_scale_and_brightness_in_exact_cases() -> None:
    images = torch.rand(2, 3, 9, 9)
    torch.testing.assert_close(transform_images(images, "rotation", 90), images.rot90(-1, (2, 3)))  # clockwise
    torch.testing.assert_close(transform_images(images, "rotation", 180), images.flip((2, 3)))
    twice = transform_images(images, "scale", 2.0)
    torch.testing.assert_close(twice[:, :, ::2, ::2], images[:, :, 2:7, 2:7])
    black, white = BLACK.view(3, 1, 1), WHITE.view(3, 1, 1)
    pixels = black + images * (white - black)
    half = transform_images(pixels, "brightness", 0.5, black=BLACK, white=WHITE)
    torch.testing.assert_close((half - black) / (white - black), images / 2)
    double = transform_images(pixels, "brightness", 2.0, black=BLACK, white=WHITE)
    torch.testing.assert_close((double - black) / (white - black), (2 * images).clamp(max=1))
    for transform, amount in (("vertical", 0), ("scale", 1), ("rotation", 360), ("brightness", 1)):
        assert transform_images(images, transform, amount, black=BLACK, white=WHITE) is images


@pytest.mark.parametrize("transform", TRANSFORMS)
@torch.no_grad()
def test_distances_and_probabilities_against_loops(transform: str) -> None:
    model, images = tiny().double(), torch.randn(5, 3, 16, 16, dtype=torch.float64)
    amounts, targets = AMOUNTS[transform][1:4], torch.tensor([0, 3, 3, 5, 1])
    result = invariance(
        model, images, transform, amounts, layers=["1", "5"], targets=targets, black=BLACK, white=WHITE, batch_size=2
    )
    assert result.distance.shape == (3, 2, 5)
    for n, stop in enumerate((2, 6)):
        clean = model[:stop](images).flatten(1)
        pairs = [(clean[i] - clean[j]).square().sum() for i in range(5) for j in range(5) if i != j]
        assert float(result.reference[n]) == pytest.approx(math.sqrt(float(sum(pairs)) / 20), rel=1e-9)
        for t, amount in enumerate(amounts):
            for i in range(5):
                changed = transform_images(images[i : i + 1], transform, amount, black=BLACK, white=WHITE)
                distance = (model[:stop](changed).flatten(1) - clean[i]).norm()
                assert float(result.distance[t, n, i]) == pytest.approx(float(distance), rel=1e-9, abs=1e-12)
                probability = model(changed).softmax(1)[0, targets[i]]
                assert float(result.probability[t, i]) == pytest.approx(float(probability), rel=1e-5)
    torch.testing.assert_close(result.stability, 1 - (result.distance / result.reference[:, None]).mean(0))
    assert set(result.by_class()) == {0, 1, 3, 5}
    torch.testing.assert_close(result.by_class()[3], result.stability[:, 1:3].mean(1))


def test_a_mean_over_the_image_does_not_notice_a_moved_spot() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2)).eval()
    images = torch.zeros(2, 1, 12, 12)
    images[0, 0, 5:7, 5:7], images[1, 0, 4:8, 4:8] = 1, 2
    result = invariance(model, images, "vertical", [-4, 0, 3], layers=["0", "2"])
    assert bool((result.distance[:, 1] <= 1e-6).all())
    assert bool((result.distance[[0, 2], 0] > 0.1).all())
    assert bool((result.distance[1] == 0).all())  # not moved at all
    assert torch.equal(result.targets, model(images).argmax(1))


def test_one_image_has_distances_but_nothing_to_compare_them_with() -> None:
    result = invariance(tiny(), torch.randn(1, 3, 16, 16), "rotation", [90], layers=["1"])
    assert float(result.distance[0, 0, 0]) > 0
    assert bool(result.relative.isnan().all())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"transform": "shear"}, "expected transform one of vertical.*'shear'"),
        ({"layers": []}, "expected at least one of layers, got none"),
        ({"layers": ["99"]}, "expected layer one of the network's layers, got '99'"),
        ({"amounts": []}, "expected at least one of amounts"),
        ({"images": torch.zeros(0, 3, 16, 16)}, "expected at least one of images"),
        ({"targets": torch.tensor([1])}, r"expected targets int64 \[2\]"),
        ({"targets": torch.tensor([1, 6])}, "expected targets classes of the model"),
        ({"transform": "brightness", "black": None}, "black and white for brightness"),
        ({"transform": "scale", "amounts": [0.0]}, "expected an amount > 0 for scale, got 0.0"),
        ({"batch_size": 0}, "expected batch_size ≥ 1, got 0"),
    ],
)
def test_bad_arguments(change: dict[str, object], message: str) -> None:
    given = {
        "images": torch.randn(2, 3, 16, 16), "transform": "vertical", "amounts": [2.0], "layers": ["1"],
        "black": BLACK, "white": WHITE, **change,
    }  # fmt: skip
    with pytest.raises(ValueError, match=message):
        invariance(tiny(), **given)  # type: ignore[arg-type]


def test_command(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for n in range(3):
        Image.fromarray(generator.integers(0, 256, (240, 250, 3), dtype=np.uint8)).save(folder / f"$x^{n}.png")
    arguments = ["--model", f"{__name__}:tiny", "--data", folder, "--out", tmp_path / "out", "--json"]
    result = CliRunner().invoke(app, ["invariance", *map(str, arguments), "--transforms", "scale,brightness"])
    assert result.exit_code == 0, result.output
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted(
        [".zfkernels", "invariance.png", "invariance.csv", "invariance.json"]
    )
    record = json.loads((tmp_path / "out" / "invariance.json").read_text())
    assert [entry["transform"] for entry in record["results"]] == ["scale", "brightness"]
    with open(tmp_path / "out" / "invariance.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == (9 + 8) * 3 * 2  # amounts, images, layers
    assert {row["layer"] for row in rows} == {"1", "5"}  # the first and the last rectifier
    mean = np.mean([float(row["relative"]) for row in rows if (row["transform"], row["layer"]) == ("scale", "1")])
    assert record["results"][0]["invariance"]["1"] == pytest.approx(1 - mean, abs=1e-4)
    failed = CliRunner().invoke(app, ["invariance", *map(str, arguments), "--classes", "labels"])
    assert failed.exit_code == 1
    assert "expected labels that are classes of" in failed.output


def test_unknown_tensor_types_are_refused() -> None:
    with pytest.raises(TypeError, match="expected images a floating-point tensor"):
        invariance(tiny(), Tensor([1]).int(), "vertical", [1], layers=["1"])

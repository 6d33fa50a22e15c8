"""Correspondence: cases whose answer is known, a loop as in the paper's equation, landmarks and their refusals."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from torch import Tensor, nn

from zfkernels.analysis.correspondence import ONE_PLACE, RANDOM, correspondence
from zfkernels.cli.app import app
from zfkernels.cli.correspondence import read_landmarks
from zfkernels.data import open_source
from zfkernels.models import Preprocess


def identity() -> nn.Module:
    """Features that are the pixels."""
    conv = nn.Conv2d(1, 1, 1, bias=False)
    nn.init.ones_(conv.weight)
    return nn.Sequential(conv, nn.Flatten()).eval()


def tiny() -> nn.Module:
    """What ``--model test_correspondence:tiny`` names."""
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(3, 4, 5, 3), nn.ReLU(), nn.Conv2d(4, 6, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
        nn.Linear(24, 5), nn.ReLU(),
    ).eval()  # fmt: skip


def middles(*places: tuple[float, float]) -> Tensor:
    return torch.tensor(places, dtype=torch.float32)


def test_known_answers() -> None:
    """With pixels as features, only masked cells change, by the sign of the image there."""
    images = torch.ones(3, 1, 8, 10)
    images[2] = -1
    parts = {
        "same place": middles((4, 5), (4, 5), (4, 5)),
        "apart": middles((1, 1), (1, 8), (6, 1)),
    }
    result = correspondence(identity(), images, parts, layers=["0"], window=2, random_draws=2)
    # Pairs (0, 1), (0, 2), (1, 2). At one place images 0 and 1 change alike, image 2 has the other sign in 4 of 80.
    torch.testing.assert_close(result.pairs["same place"][0, 0], torch.tensor([0, 4, 4], dtype=torch.float64) / 80)
    # Apart, each pair differs in the 8 cells of both masks.
    torch.testing.assert_close(result.pairs["apart"][0, 0], torch.full((3,), 8 / 80, dtype=torch.float64))
    assert float(result.mean("same place")[0]) == pytest.approx(8 / 3 / 80)
    one_place = result.pairs[ONE_PLACE][:, 0]
    torch.testing.assert_close(one_place, torch.tensor([[0, 4, 4]] * 2, dtype=torch.float64) / 80)


def test_against_a_loop() -> None:
    model, images = tiny().double(), torch.randn(4, 3, 24, 24, dtype=torch.float64)
    places = middles((6, 7), (12, 9), (15, 16), (8, 20))
    result = correspondence(model, images, {"part": places}, layers=["1", "7"], window=(4, 6), random_draws=2, fill=0.3)
    for n, stop in enumerate((2, 8)):
        changes = []
        for image, (row, column) in zip(images, places.tolist(), strict=True):
            masked = image.clone()
            masked[:, int(row) - 2 : int(row) + 2, int(column) - 3 : int(column) + 3] = 0.3
            changes.append((model[:stop](image[None]) - model[:stop](masked[None])).flatten().sign())
        total = sum(float((changes[i] != changes[j]).sum()) for i in range(4) for j in range(4) if i != j)
        assert float(result.mean("part")[n]) == pytest.approx(total / 12 / len(changes[0]), abs=1e-12)


def test_random_places_follow_the_seed_and_stay_in_their_region() -> None:
    images = torch.ones(2, 1, 20, 20)
    box = torch.tensor([[0, 0, 6, 6]] * 2)
    options = {"layers": ["0"], "window": 3, "random_draws": 6, "regions": {"corner": box}}
    one, same, other = (correspondence(identity(), images, {}, seed=seed, **options) for seed in (0, 0, 1))  # type: ignore[arg-type]
    assert torch.equal(one.pairs[RANDOM], same.pairs[RANDOM])
    assert not torch.equal(one.pairs["corner"], other.pairs["corner"])
    assert one.parts == ("corner", RANDOM, ONE_PLACE)
    # In a corner of 6 cells masks of 3 meet more often than in the whole image.
    assert float(one.mean("corner")[0]) < float(one.mean(RANDOM)[0])
    below = one.share_below("corner", RANDOM)
    expected = (one.pairs[RANDOM].mean(2) <= one.mean("corner")).double().mean(0)
    assert torch.equal(below, expected)


def test_changes_by_rounding_have_no_sign() -> None:
    images = torch.full((2, 1, 6, 6), 1e-9)
    images[:, 0, 0, 0] = 1.0
    parts = {"nothing": middles((4, 2), (4, 4))}
    result = correspondence(identity(), images, parts, layers=["0"], window=2, random_draws=1)
    assert float(result.mean("nothing")[0]) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": torch.ones(1, 1, 8, 8)}, "expected at least 2 images, got 1"),
        ({"parts": {"eye": middles((3, 3), (3, 8))}}, r"expected part 'eye' inside the image of 8x8 .* in image 1"),
        ({"parts": {"eye": middles((3, 3))}}, r"expected part 'eye' of shape \[2, 2\]"),
        ({"window": 9}, "expected window from 1 to the images'"),
        ({"layers": []}, "expected at least one of layers"),
        ({"random_draws": 0}, "expected random_draws ≥ 1, got 0"),
    ],
)
def test_bad_arguments(change: dict[str, object], message: str) -> None:
    given = {"images": torch.ones(2, 1, 8, 8), "parts": {}, "layers": ["0"], "window": 2, **change}
    with pytest.raises(ValueError, match=message):
        correspondence(identity(), **given)  # type: ignore[arg-type]


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    folder = tmp_path / "faces"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for n in range(3):
        Image.fromarray(generator.integers(0, 256, (512, 640, 3), dtype=np.uint8)).save(folder / f"{n}.png")
    rows = [("filename", "left_eye_x", "left_eye_y", "head_xmin", "head_ymin", "head_xmax", "head_ymax")]
    rows += [(f"{n}.png", 320, 256 + 10 * n, 200, 100, 400, 400) for n in range(3)]
    with open(folder / "landmarks.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return folder


def test_landmarks_in_pixels_of_the_networks_input(faces: Path) -> None:
    images, keys, parts, regions = read_landmarks(faces / "landmarks.csv", open_source(faces), Preprocess())
    assert keys == ["0.png", "1.png", "2.png"]
    assert images.shape == (3, 3, 224, 224)
    # 512 x 640 is scaled by 1/2 to 256 x 320, of which the middle 224 x 224 are taken.
    torch.testing.assert_close(parts["left eye"], middles((112, 112), (117, 112), (122, 112)))
    torch.testing.assert_close(regions["random, head"][0], torch.tensor([34.0, 52.0, 184.0, 152.0]))


def test_command_and_refusals(faces: Path, tmp_path: Path) -> None:
    base = ["correspondence", "--model", f"{__name__}:tiny", "--data", str(faces), "--random", "3", "--json"]
    table = faces / "landmarks.csv"
    result = CliRunner().invoke(app, [*base, "--landmarks", str(table), "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    record = json.loads((tmp_path / "out" / "correspondence.json").read_text())
    assert (record["window"], record["random_draws"], record["seed"]) == (32, 3, 0)
    assert {row["masked"] for row in record["rows"]} == {"left eye", "random, head", RANDOM, ONE_PLACE}
    assert (tmp_path / "out" / "correspondence.csv").exists()
    for change, message in (
        (("320,266", "900,266"), "expected left_eye of 1.png inside what the network sees"),
        (("320,266", "x,266"), "expected left_eye_x of 1.png a number, got 'x'"),
        (("1.png", "9.png"), "expected data with the image '9.png' of the landmarks"),
        (("left_eye_x", "left"), "expected landmarks with columns filename, NAME_x and NAME_y"),
    ):
        bad = tmp_path / "bad.csv"
        bad.write_text(table.read_text().replace(*change), encoding="utf-8")
        failed = CliRunner().invoke(app, [*base, "--landmarks", str(bad), "--out", str(tmp_path / "none")])
        assert failed.exit_code == 1
        assert message in failed.output
        assert not (tmp_path / "none").exists()


def test_parts_of_real_dogs_are_related(shared_data: Path) -> None:
    """In a middle layer of a trained network an eye changes the features more alike than a random place does."""
    from zfkernels.models import get_model, get_preprocess

    model = get_model("squeezenet1_1", shared_data / "squeezenet1_1_imagenet.pt")
    source = open_source(shared_data / "dogs_facing")
    images, _, parts, _ = read_landmarks(
        shared_data / "dogs_facing" / "landmarks.csv", source, get_preprocess("squeezenet1_1")
    )
    some = {name: places[:6] for name, places in parts.items() if "eye" in name}
    result = correspondence(model, images[:6], some, layers=["features.7"], window=32, random_draws=4)
    for part in some:
        assert float(result.share_below(part, RANDOM)[0]) == 0

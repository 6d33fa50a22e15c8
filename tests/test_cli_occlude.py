"""The command line's figure 7: what it writes, that its numbers are those of the sweep, and its refusals."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image
from torch import Tensor, nn

import zfkernels as zf
from zfkernels.cli.app import app
from zfkernels.cli.occlude_study import _strongest_part, last_maps
from zfkernels.models import Preprocess, get_preprocess
from zfkernels.network.network import trace_model


def tiny() -> nn.Module:
    """What ``--model test_cli_occlude:tiny`` names."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 7, 4), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 12, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(12, 9),
    )  # fmt: skip
    model[-1].weight.data *= 20  # so that the most probable class changes
    return model.eval()


def blind() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 224 * 224, 2)).eval()


MODEL = ("--model", f"{__name__}:tiny")
SQUARE = ("--window", "1/4", "--stride", "40")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["occlude", *(str(argument) for argument in arguments)])


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    folder = tmp_path / "photos"
    folder.mkdir()
    generator = np.random.default_rng(0)
    paths = [folder / f"{n} $1 \\frac$ {n}.png" for n in range(5)]  # no formula
    for path in paths:
        coarse = generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((256, 256), Image.Resampling.BICUBIC).save(path)
    return paths


def tensor(path: Path) -> Tensor:
    with Image.open(path) as image:
        return Preprocess()(image.convert("RGB"))[None]


def test_picture_and_numbers(photos: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = run(*photos[:2], *MODEL, *SQUARE, "--others", photos[0].parent, "--out", out)
    assert result.exit_code == 0, result.output
    assert f"look at {out / 'occlusion.png'}" in result.stdout
    assert sorted(os.listdir(out)) == [".zfkernels", "occlusion.json", "occlusion.npz", "occlusion.png"]
    with Image.open(out / "occlusion.png") as figure:
        assert figure.format == "PNG"
        assert figure.width > 2000
    record = json.loads((out / "occlusion.json").read_text())
    assert (record["layer"], record["window"], record["stride"], record["fill"]) == ("4", 56, 40, "neutral")
    model, arrays = tiny(), np.load(out / "occlusion.npz", allow_pickle=False)
    for n, (path, found) in enumerate(zip(photos, record["images"], strict=False)):
        image = tensor(path)
        expected = zf.occlusion_sweep(model, image, window=56, stride=40, layer="4")
        target = int(expected.clean.argmax())
        assert (found["image"], found["class"], found["name"]) == (path.name, target, f"class {target}")
        assert found["probability"] == pytest.approx(float(expected.clean.softmax(1)[0, target]), rel=1e-5)
        np.testing.assert_array_equal(arrays["positions"][n], expected.positions)
        np.testing.assert_allclose(arrays["probability"][n], expected.probability(target)[0], rtol=1e-4)
        np.testing.assert_allclose(arrays["activity"][n], expected.activity[0], rtol=1e-4)  # type: ignore[index]
        np.testing.assert_array_equal(arrays["best_class"][n], expected.best_class()[0])
        assert found["lowest"]["value"] == pytest.approx(arrays["probability"][n].min())
        row, column = np.unravel_index(arrays["probability"][n].argmin(), (6, 6))
        assert found["lowest"]["square"] == arrays["positions"][n][row, column].tolist() == [row * 40, column * 40]
        assert found["lowest_activity"]["value"] == pytest.approx(arrays["activity"][n].min())
        maps = trace_model(model).activations(image, ["4"])["4"][0]
        assert found["map"] == int(maps.sum((1, 2)).argmax())
        assert found["activity"] == pytest.approx(float(maps[found["map"]].sum()), rel=1e-5)
        assert sum(entry["share"] for entry in found["most_probable"]) == pytest.approx(1)
        shares = {entry["class"]: entry["share"] for entry in found["most_probable"]}
        assert shares[target] == pytest.approx((arrays["best_class"][n] == target).mean())
    assert any(len(found["most_probable"]) > 1 for found in record["images"])


def test_others_are_those_that_excite_the_map_most(photos: list[Path], tmp_path: Path) -> None:
    result = run(photos[2], *MODEL, *SQUARE, "--others", photos[0].parent, "--out", tmp_path / "out", "--json")
    assert result.exit_code == 0, result.output
    (found,) = json.loads(result.stdout)["images"]
    trace = trace_model(tiny())
    peaks = {p.name: float(trace.activations(tensor(p), ["4"])["4"][0, found["map"]].max()) for p in photos}
    del peaks[photos[2].name]  # the photo itself does not count
    ranked = sorted(peaks, key=lambda name: -peaks[name])[:3]
    assert [other["image"] for other in found["others"]] == ranked
    assert [other["activation"] for other in found["others"]] == pytest.approx([peaks[n] for n in ranked], rel=1e-5)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), (32, 8, "neutral")),
        (("--window", "40", "--stride", "0.1", "--fill", "0.5"), (40, 22, 0.5)),
        (("--window", "1", "--stride", "1/3", "--fill", "1"), (1, 75, 1.0)),
        (("--fill", "mean", "--window", "50"), (50, 8, "mean")),
    ],
)
def test_square(
    options: tuple[str, ...], expected: Any, photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def sweep(model: nn.Module, images: Tensor, **options: Any) -> None:
        asked.update(options, images=images)
        raise ValueError("enough")

    monkeypatch.setattr("zfkernels.occlusion.api.occlusion_sweep", sweep)
    result = run(photos[0], *MODEL, *options, "--others", photos[0].parent, "--out", tmp_path / "out")
    assert result.stderr == "Error: enough\n"
    window, stride, fill = expected
    assert (asked["window"], asked["stride"]) == (window, stride)
    if fill == "mean":
        torch.testing.assert_close(asked["fill"], asked["images"].mean((0, 2, 3)))
    elif fill == "neutral":
        assert asked["fill"].tolist() == [0, 0, 0]
    else:
        preprocess = get_preprocess(MODEL[1])
        back = asked["fill"] * torch.tensor(preprocess.std) + torch.tensor(preprocess.mean)
        torch.testing.assert_close(back, torch.full((3,), fill))


def test_targets(photos: list[Path], tmp_path: Path) -> None:
    arguments = (*photos[:2], *MODEL, *SQUARE, "--others", photos[0].parent, "--json", "--out", tmp_path / "out")
    for targets, expected in ((("3",), [3, 3]), (("3", "5"), [3, 5])):
        result = run(*arguments, *(part for target in targets for part in ("--target", target)))
        assert result.exit_code == 0, result.output
        assert [found["class"] for found in json.loads(result.stdout)["images"]] == expected
        assert result.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((), 2, "expected IMAGE or --data, got none of them"),
        (("--window", "0"), 2, "expected pixels (32) or a share of the image's side (1/7, 0.15), got '0'"),
        (("--window", "1.5"), 2, "got '1.5'"),
        (("--stride", "1/0"), 2, "got '1/0'"),
        (("--stride", "few"), 2, "got 'few'"),
        (("--fill", "2"), 2, "expected a grey from 0 (black) to 1 (white), neutral, mean, blur"),
        (("--fill", "red"), 2, "the file of a picture, got 'red'"),
        (("--target", "1", "--target", "2"), 2, "expected one, or one for each of 1 images, got 2"),
        (
            ("--target", "tench"),
            1,
            "the number of a class, as the model names none (class_names), got 'tench'",
        ),
        (("--target", "9"), 1, "occlude: expected a class from 0 to 8, got 9"),
        (("--window", "225"), 1, "expected window no larger than the images (224, 224), got (225, 225)"),
        (("--layer", "convolution"), 1, "got 'convolution'; near matches"),
        (("--layer", "7"), 1, "expected layer one with feature maps, got '7'"),
        (("--model", f"{__name__}:blind"), 1, "expected a model with feature maps, got one without"),
        (("--others", "nowhere"), 1, "expected data an existing folder, archive or image, got nowhere"),
        (("--weights", "nowhere.pt"), 1, "expected weights 'DEFAULT' or an existing file, got nowhere.pt"),
        (("--backend", "abacus"), 1, "abacus"),
    ],
)
def test_refused(arguments: tuple[str, ...], code: int, message: str, photos: list[Path], tmp_path: Path) -> None:
    image = [photos[0]] if arguments else []
    result = run(*image, *MODEL, "--others", photos[0].parent, "--out", tmp_path / "out", *arguments)
    assert result.exit_code == code, result.output
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == (1 if code == 1 else 4)
    assert not (tmp_path / "out").exists()


def test_a_place_that_cannot_be_written_is_refused_before_the_work(
    photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zfkernels.cli.occlude_study.Study", lambda *arguments: pytest.fail("work was done"))
    result = run(photos[0], *MODEL, "--out", photos[1])
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: occlude: expected out a folder that can be written, got {photos[1]} (")


def test_images_that_cannot_be_shown(photos: list[Path], tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no picture")
    result = run(tmp_path / "text.png", *MODEL, "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert result.stderr == "Error: occlude: expected images that can be read, got text.png: not an image file\n"
    result = run(*photos * 7, *MODEL, "--out", tmp_path / "out")
    assert result.stderr == "Error: occlude: expected at most 32 images for one picture, got more\n"


@pytest.mark.parametrize(
    ("name", "layer"),
    [("alexnet", "features.11"), ("squeezenet1_1", "features.12.expand3x3_activation"), ("resnet18", "layer4.1.relu:1"),
     ("efficientnet_b0", "features.8.0")],
)  # fmt: skip
def test_the_layer_chosen_by_itself(name: str, layer: str) -> None:
    models = pytest.importorskip("torchvision.models")
    with torch.device("meta"):
        model = models.get_model(name, weights=None)
    assert last_maps(trace_model(model.eval())) == layer


def test_the_strongest_part_of_projections() -> None:
    projections = torch.zeros(2, 3, 40, 50)
    projections[0, 1, 3:9, 44:50] = 1
    projections[1, :, 20:30, 10:18] = -1
    projections[1, :, 39, 0] = 1e-4
    corners, size = _strongest_part(projections)
    assert size == (10, 10)
    assert corners.tolist() == [[1, 40], [20, 9]]
    assert _strongest_part(torch.zeros(1, 3, 8, 9))[1] <= (8, 8)


def test_hiding_the_object_lowers_its_probability(shared_data: Path, tmp_path: Path) -> None:
    """On the photo of an oystercatcher: its head is what the network needs, and the water is not."""
    pytest.importorskip("torchvision")
    photo, weights = shared_data / "ccby64" / "143_oystercatcher.jpg", shared_data / "squeezenet1_1_imagenet.pt"
    result = run(
        photo, "--model", "squeezenet1_1", "--weights", weights, "--stride", "1/7", "--target", "oystercatcher",
        "--others", photo, "--out", tmp_path / "out", "--json",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    (found,) = json.loads(result.stdout)["images"]
    assert found["class"] == 143
    assert found["others"] == []
    assert found["probability"] > 0.98
    assert found["lowest"]["value"] < 0.5 * found["probability"]
    row, column = found["lowest"]["square"]
    assert 64 <= row + 16 <= 176  # the bill and the eye
    assert 96 <= column + 16 <= 208
    probability = np.load(tmp_path / "out" / "occlusion.npz")["probability"][0]
    assert probability[:, 0].min() > 0.9 * found["probability"]  # the left edge is water

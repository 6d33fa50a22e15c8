"""The series of ablations: its networks, its table, resuming; training on a part of a data set; options in weights."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from support.pictures import make_classes

pytest.importorskip("lightning")

from zfkernels import training
from zfkernels.cli.app import app
from zfkernels.models import get_model, inference_form, zfnet64
from zfkernels.training.ablation import VARIANTS, ablate
from zfkernels.training.images import LabelledImages


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_classes(tmp_path_factory.mktemp("ablation"), 5, 2, 64, 64)


def layers(name: str) -> tuple[int, int]:
    """Convolutions and fully connected layers of a variant."""
    modules = list(VARIANTS[name].network(5, 0.1).modules())
    kinds = (torch.nn.Conv2d, torch.nn.Linear)
    return tuple(sum(isinstance(module, kind) for module in modules) for kind in kinds)  # type: ignore[return-value]


def test_variants_lack_what_they_say() -> None:
    assert layers("base") == (5, 3)
    assert layers("no-3-4") == (3, 3)
    assert layers("no-7") == (5, 2)
    assert layers("no-6-7") == (5, 1)
    assert layers("no-3-4-6-7") == (3, 1)
    first = VARIANTS["first-11x11-4"].network(5).features[0]
    assert (first.kernel_size, first.stride) == ((11, 11), (4, 4))
    shapes = {}
    for name in ("first-7x7-2", "first-11x11-4"):
        network = inference_form(VARIANTS[name].network(5, 0.25))
        assert network(torch.zeros(1, 3, 64, 64)).shape == (1, 5)
        shapes[name] = network.features[:8](torch.zeros(1, 3, 64, 64)).shape
    assert shapes["first-7x7-2"] == shapes["first-11x11-4"] == (1, 24, 4, 4)  # layers 3 to 5 see maps of one size
    widths = [module.out_features for module in VARIANTS["double-units"].network(5).classifier[::3]]
    assert widths == [768, 768, 5]


@pytest.mark.parametrize("name", ["no-7", "no-6-7", "no-3-4-6-7", "first-11x11-4"])
def test_weights_say_which_network_they_fit(tmp_path: Path, name: str) -> None:
    network = VARIANTS[name].network(7, 0.2)
    path = training.save_weights(network, tmp_path / "w.safetensors", dtype=torch.float32)
    loaded, images = get_model("zfnet64", path), torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(loaded(images), network.eval()(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ('{"layers": 3}', "got a file for layers = 3"),
        ('{"num_classes": -1}', "got a file for num_classes = -1"),
        ('{"num_classes": "many"}', "got a file for num_classes = 'many'"),
        ("[1]", "expected weights with options a mapping"),
        ("{", "expected weights with readable options"),
    ],
)
def test_options_in_weights_are_checked(tmp_path: Path, options: str, message: str) -> None:
    from safetensors.torch import save_file

    save_file(zfnet64(5).state_dict(), tmp_path / "w.safetensors", metadata={"options": options})
    with pytest.raises(ValueError, match=message):
        get_model("zfnet64", tmp_path / "w.safetensors")


def test_a_part_of_a_data_set(pictures: Path) -> None:
    part = LabelledImages(pictures, "train", 64, classes=2, per_class=3)
    assert part.classes == ["class0", "class1"]
    assert torch.bincount(part.labels).tolist() == [3, 3]
    assert part.fingerprint() != LabelledImages(pictures, "train", 64, classes=2).fingerprint()
    with pytest.raises(ValueError, match="expected 6 images of each class, got 5 of 'class0' in train"):
        LabelledImages(pictures, "train", 64, per_class=6)
    with pytest.raises(ValueError, match="expected classes from 2 to the 3 of train, got 4"):
        LabelledImages(pictures, "train", 64, classes=4)


def test_images_smaller_than_the_network_are_refused(pictures: Path, tmp_path: Path) -> None:
    network = training.new_network("zfnet", 3)
    with pytest.raises(ValueError, match=r"expected images of at least 224 pixels.*class0/0.png of 64x64"):
        training.train(network, pictures, tmp_path / "out", devices=1, progress=False)
    assert not (tmp_path / "out").exists()


def test_a_series_resumes_and_tabulates(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"scale": 0.1, "recipe": training.SMALL.with_budget(1, 4), "devices": 1, "progress": False}
    rows = ablate(pictures, tmp_path, variants=["base", "no-7"], limit_classes=2, limit_per_class=4, **options)  # type: ignore[arg-type]
    assert [row["variant"] for row in rows] == ["base", "no-7"]
    for row in rows:
        run = json.loads((tmp_path / row["variant"] / "seed-0" / "result.json").read_text())
        weights = tmp_path / row["variant"] / "seed-0" / "weights.safetensors"
        found = training.evaluate(get_model("zfnet64", weights), pictures, limit_classes=2, progress=False)
        assert run["val_error"] == pytest.approx(1 - found["top1"]) == row["val_error_mean"]
        assert row["gap_mean"] == pytest.approx(row["val_error_mean"] - row["train_error_mean"])
        summary = json.loads((weights.parent / "summary.json").read_text())
        assert (summary["train_images"], summary["val_images"]) == (8, 4)
    trained = []
    original = training.ablation.train

    def counting(*args: object, **keywords: object) -> object:
        trained.append(keywords["seed"])
        return original(*args, **keywords)  # type: ignore[arg-type]

    monkeypatch.setattr("zfkernels.training.ablation.train", counting)
    more = ablate(pictures, tmp_path, variants=["base", "no-7"], seeds=(0, 3), limit_classes=2, limit_per_class=4,
                  **options)  # type: ignore[arg-type]  # fmt: skip
    assert trained == [3, 3]  # the runs of seed 0 are there
    assert more[0]["seeds"] == [0, 3]
    errors = [json.loads((tmp_path / "base" / f"seed-{n}" / "result.json").read_text())["val_error"] for n in (0, 3)]
    assert more[0]["val_error_mean"] == pytest.approx(sum(errors) / 2)
    assert more[0]["val_error_std"] == pytest.approx(abs(errors[0] - errors[1]) / 2**0.5)
    with open(tmp_path / "ablation.csv", encoding="utf-8") as file:
        assert [row["variant"] for row in csv.DictReader(file)] == ["base", "no-7"]
    with pytest.raises(ValueError, match=r"a series with the same settings, got .* with scale = 0\.1 instead of 0\.2"):
        ablate(pictures, tmp_path, variants=["base"], limit_classes=2, limit_per_class=4, **{**options, "scale": 0.2})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"expected variants of base, .*, got 'no-8'"):
        ablate(pictures, tmp_path, variants=["no-8"])


def test_commands(pictures: Path, tmp_path: Path) -> None:
    listed = CliRunner().invoke(app, ["ablate", "--list"])
    assert listed.exit_code == 0
    assert len(listed.output.splitlines()) == len(VARIANTS)
    base = ["--data", str(pictures), "--epochs", "1", "--batch-size", "4", "--workers", "0", "--scale", "0.1", "--json"]
    out = tmp_path / "ablation"
    result = CliRunner().invoke(app, ["ablate", *base, "--variants", "no-6-7", "--devices", "1", "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert json.loads((out / "ablation.json").read_text())["settings"]["scale"] == 0.1
    with Image.open(out / "ablation.png") as figure:
        assert figure.width > 500
    run = tmp_path / "run"
    trained = CliRunner().invoke(
        app, ["train", *base, "--classes", "2", "--per-class", "4", "--keep-epochs", "1", "--out", str(run)]
    )
    assert trained.exit_code == 0, trained.output
    with Image.open(run / "learning_curve.png") as figure:
        assert figure.width > 500
    record = json.loads((run / "run.json").read_text())
    assert (record["limit_classes"], record["limit_per_class"], len(record["classes"])) == (2, 4, 2)
    assert [path.name for path in (run / "evolution").iterdir()] == ["epoch-001.safetensors"]
    weights = run / "weights.safetensors"
    assert get_model("zfnet64", weights).options["num_classes"] == 2  # type: ignore[index]
    shutil.copytree(pictures / "val" / "class0", tmp_path / "two" / "val" / "class0")
    shutil.copytree(pictures / "val" / "class1", tmp_path / "two" / "val" / "class1")
    measured = CliRunner().invoke(
        app, ["evaluate", "--weights", str(weights), "--with", str(run / "evolution" / "epoch-001.safetensors"),
              "--data", str(tmp_path / "two"), "--crops", "ten", "--json"]
    )  # fmt: skip
    assert measured.exit_code == 0, measured.output
    networks = [get_model("zfnet64", weights)] * 2  # the weights after the one epoch, twice
    expected = training.evaluate(networks, tmp_path / "two", crops="ten", progress=False)
    assert json.loads(measured.stdout) == expected
    limited = CliRunner().invoke(
        app, ["evaluate", "--weights", str(weights), "--data", str(tmp_path / "two"), "--limit", "1", "--json"]
    )
    assert limited.exit_code == 0, limited.output
    assert json.loads(limited.stdout)["images"] == 1


def test_fewer_images_than_the_recipes_batch(pictures: Path, tmp_path: Path) -> None:
    base = ["train", "--data", str(pictures), "--epochs", "1", "--workers", "0", "--scale", "0.1", "--classes", "2",
            "--per-class", "3", "--devices", "1", "--out", str(tmp_path / "run")]  # fmt: skip
    refused = CliRunner().invoke(app, [*base, "--batch-size", "7"])
    assert refused.exit_code == 1
    assert refused.stderr.splitlines()[-1] == (
        "Error: train: expected batch_size of at most the 6 training images, got 7"
    )
    result = CliRunner().invoke(app, base)
    assert result.exit_code == 0, result.output
    assert "6 training images: batches of 6 instead of 128" in result.stderr
    (line,) = result.stdout.splitlines()  # the bar is on stderr
    assert line.startswith("epoch 1: top-1 ")
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["precision"] in ("32-true", "bf16-mixed")
    assert record["recipe"]["learning_rate"] == pytest.approx(training.SMALL.learning_rate * 6 / 128)

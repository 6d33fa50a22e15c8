"""Transfer and layer probe: folds, accuracies that are known, cached features, the commands."""

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

from zfkernels import features as features_module
from zfkernels.analysis.transfer import class_accuracy, folds_of
from zfkernels.cli.app import app
from zfkernels.data import open_source
from zfkernels.features import extract_features
from zfkernels.models import Preprocess

pytest.importorskip("sklearn")

from zfkernels.analysis.layer_probe import layer_probe
from zfkernels.analysis.transfer import transfer

LABELS = torch.arange(60) % 3


def tiny() -> nn.Module:
    """What ``--model test_transfer:tiny`` names."""
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(3, 4, 9, 8), nn.ReLU(), nn.Conv2d(4, 6, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(6, 5),
    ).eval()  # fmt: skip


def separable(noise: float) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.nn.functional.one_hot(LABELS, 3).float() + noise * torch.randn(60, 3, generator=generator)


def test_folds() -> None:
    labels = torch.tensor([0] * 9 + [1] * 30 + [2] * 12)[torch.randperm(51, generator=torch.Generator().manual_seed(0))]
    few = list(folds_of(labels, train_per_class=3, test_per_class=5, folds=4, seed=1))
    more = list(folds_of(labels, train_per_class=8, test_per_class=5, folds=4, seed=1))
    for (train, test), (larger, other) in zip(few, more, strict=True):
        assert torch.bincount(labels[train]).tolist() == [3, 3, 3]
        assert torch.bincount(labels[larger]).tolist() == [8, 8, 8]
        assert torch.bincount(labels[test]).tolist() == [5, 5, 5]
        assert torch.bincount(labels[other]).tolist() == [1, 5, 4]
        assert not set(train.tolist()) & set(test.tolist())
        assert not set(larger.tolist()) & set(other.tolist())
        assert set(train.tolist()) <= set(larger.tolist())
    assert not torch.equal(few[0][0], few[1][0])
    again = list(folds_of(labels, train_per_class=3, test_per_class=5, folds=4, seed=1))
    assert all(
        torch.equal(a, b) for pair, same in zip(few, again, strict=True) for a, b in zip(pair, same, strict=True)
    )


def test_accuracy_is_the_mean_over_classes_not_over_images() -> None:
    predicted, labels = torch.tensor([0, 0, 0, 0, 1, 0]), torch.tensor([0, 0, 0, 0, 1, 1])
    torch.testing.assert_close(class_accuracy(predicted, labels, 2), torch.tensor([1.0, 0.5], dtype=torch.float64))


@pytest.mark.parametrize("classifier", ["softmax", "svm"])
def test_known_accuracies(classifier: str) -> None:
    perfect = transfer(separable(0.01), LABELS, train_per_class=(4, 8), folds=3, classifier=classifier)
    assert perfect.accuracy.shape == (2, 3)
    assert bool((perfect.accuracy == 1).all())
    assert bool((perfect.std == 0).all())
    noise = torch.randn(60, 3, generator=torch.Generator().manual_seed(1))
    chance = transfer(noise, LABELS, train_per_class=(8,), folds=5, classifier=classifier)
    assert abs(float(chance.mean[0]) - 1 / 3) < 0.2
    torch.testing.assert_close(chance.class_accuracy.mean(1), chance.mean)


def test_a_probe_uses_the_same_folds_for_all_layers() -> None:
    result = layer_probe({"good": separable(0.3), "same": separable(0.3), "bad": separable(3)}, LABELS,
                         train_per_class=(6,), folds=3)  # fmt: skip
    good, same, bad = result.transfers
    assert torch.equal(good.accuracy, same.accuracy)
    assert float(good.mean[0]) > float(bad.mean[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_per_class": (20,), "names": ["ape", "bee", "cat"]}, r"more than 20 images of each class.*ape \(20\)"),
        ({"labels": torch.zeros(60, dtype=torch.int64)}, "expected labels of at least 2 classes, got 1"),
        ({"features": separable(0)[:59]}, r"expected features finite and of shape \[60, D\]"),
        ({"features": separable(float("nan"))}, "expected features finite"),
        ({"classifier": "tree"}, "expected classifier one of softmax, svm, got 'tree'"),
        ({"folds": 0}, "expected folds ≥ 1, got 0"),
        ({"train_per_class": ()}, "expected a train_per_class"),
    ],
)
def test_bad_arguments(change: dict[str, object], message: str) -> None:
    given = {"features": separable(0.1), "labels": LABELS, "train_per_class": (4,), **change}
    with pytest.raises(ValueError, match=message):
        transfer(**given)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected features of at least one layer"):
        layer_probe({}, LABELS)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes around two colours, 6 pictures each, and a third folder to leave out."""
    root = tmp_path_factory.mktemp("classes")
    generator = np.random.default_rng(0)
    for label, name in enumerate(("red", "green", "BACKGROUND_Google")):
        (root / name).mkdir()
        for n in range(6):
            pixels = generator.integers(0, 130, (64, 70, 3), dtype=np.uint8)
            pixels[..., label] += 120
            Image.fromarray(pixels).save(root / name / f"{n}.png")
    return root


SMALL = Preprocess(size=64, resize=64)


def test_features_are_the_pooled_values_and_are_computed_once(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, source = tiny(), open_source(pictures)
    found = extract_features(model, source, SMALL, ["1", "5"], grid=2, cache=tmp_path, ids=range(6, 18),
                             batch_size=4, workers=0)  # fmt: skip
    assert found.classes == ("green", "red")
    assert found.values["1"].shape == (12, 4 * 2 * 2)
    assert found.values["5"].shape == (12, 6)
    for n, image_id in enumerate(found.ids.tolist()):
        image = SMALL(source.load(image_id)[0])[None]
        expected = torch.nn.functional.adaptive_avg_pool2d(model[:2](image), 2).flatten()
        torch.testing.assert_close(found.values["1"][n], expected)
        assert found.classes[int(found.labels[n])] == source.load(image_id)[1]
    monkeypatch.setattr(features_module, "stream", lambda *_, **__: pytest.fail("computed again"))
    again = extract_features(model, source, SMALL, ["1", "5"], grid=2, cache=tmp_path, ids=range(6, 18))
    assert torch.equal(again.values["1"], found.values["1"])
    assert torch.equal(again.labels, found.labels)


def test_other_weights_or_images_are_other_features(pictures: Path, tmp_path: Path) -> None:
    model, source = tiny(), open_source(pictures)
    first = extract_features(model, source, SMALL, ["1"], cache=tmp_path, workers=0)
    with torch.no_grad():
        model[0].weight.mul_(2)
    other = extract_features(model, source, SMALL, ["1"], cache=tmp_path, workers=0)
    assert not torch.allclose(first.values["1"], other.values["1"])
    source.limit(5)
    assert len(extract_features(model, source, SMALL, ["1"], cache=tmp_path, workers=0).labels) == 5


def test_a_broken_off_extraction_goes_on(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, source = tiny(), open_source(pictures)
    expected = extract_features(model, source, SMALL, ["1"], workers=0)
    read: list[int] = []
    pooled = features_module._pooled

    def counting(values: Tensor, grid: int) -> Tensor:
        read.append(len(values))
        if len(read) == 3:
            raise KeyboardInterrupt
        return pooled(values, grid)

    monkeypatch.setattr(features_module, "_pooled", counting)
    with pytest.raises(KeyboardInterrupt):
        extract_features(model, source, SMALL, ["1"], cache=tmp_path, batch_size=5, workers=0)
    found = extract_features(model, source, SMALL, ["1"], cache=tmp_path, batch_size=5, workers=0)
    assert read == [5, 5, 5, 5, 3]  # the batch that failed once more, then the last three
    assert torch.equal(found.values["1"], expected.values["1"])


def test_an_unreadable_picture_is_left_out_and_named(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "red").mkdir()
    (tmp_path / "red" / "0.png").write_bytes((pictures / "red" / "0.png").read_bytes())
    (tmp_path / "red" / "1.png").write_bytes(b"no picture")
    found = extract_features(tiny(), open_source(tmp_path), SMALL, ["1"], workers=0)
    assert len(found.labels) == 1
    assert [key for key, _ in found.skipped] == ["red/1.png"]
    with pytest.raises(ValueError, match="expected images with labels that can be read, got none"):
        extract_features(tiny(), open_source(tmp_path), SMALL, ["1"], ids=[1], workers=0)
    with pytest.raises(ValueError, match="expected ids of at least one image, got none"):
        extract_features(tiny(), open_source(tmp_path), SMALL, ["1"], ids=[], workers=0)
    with pytest.raises(ValueError, match="expected at least one layer and grid ≥ 1"):
        extract_features(tiny(), open_source(tmp_path), SMALL, [], workers=0)


def test_commands(pictures: Path, tmp_path: Path) -> None:
    base = ["--model", f"{__name__}:tiny", "--data", str(pictures), "--folds", "2", "--workers", "0", "--json"]
    base += ["--cache", str(tmp_path / "cache"), "--out", str(tmp_path / "out"), "--size", "64"]
    result = CliRunner().invoke(app, ["transfer", *base, "--train-per-class", "2,4"])
    assert result.exit_code == 0, result.output
    record = json.loads((tmp_path / "out" / "transfer.json").read_text())
    assert (record["images"], record["classes"], record["seed"]) == (12, 2, 0)
    assert (record["data"], record["test_per_class"]) == (pictures.name, 50)  # no path of one machine
    assert record["results"][0]["layer"] == "3"  # the last rectifier
    with open(tmp_path / "out" / "transfer.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 2
    assert {(row["network"], row["layer"]) for row in rows} == {(f"{__name__}:tiny", "3")}
    mean = np.mean([float(row["accuracy"]) for row in rows if row["train_per_class"] == "4"])
    assert record["results"][0]["mean"][1] == pytest.approx(mean, abs=1e-5)
    result = CliRunner().invoke(app, ["probe", *base, "--train-per-class", "4", "--classifiers", "softmax,svm"])
    assert result.exit_code == 0, result.output
    record = json.loads((tmp_path / "out" / "probe.json").read_text())
    assert [(entry["layer"], entry["classifier"]) for entry in record["results"]] == [
        ("1", "softmax"), ("3", "softmax"), ("1", "svm"), ("3", "svm"),
    ]  # fmt: skip
    failed = CliRunner().invoke(app, ["transfer", *base, "--train-per-class", "6"])
    assert failed.exit_code == 1
    assert "got fewer of green (6), red (6)" in failed.output
    none = CliRunner().invoke(app, ["transfer", *base, "--exclude", "red,green,BACKGROUND_Google"])
    assert (none.exit_code, none.stderr) == (1, "Error: transfer: expected data with images of other classes than "
                                                "red, green, BACKGROUND_Google, got none\n")  # fmt: skip
    small = CliRunner().invoke(app, ["probe", *base, "--size", "65"])
    assert (small.exit_code, small.stderr) == (
        1, "Error: probe: expected images of at least 65 pixels, which the network takes (--size: a smaller input), "
           "got green/0.png of 70x64\n",
    )  # fmt: skip
    scratch = CliRunner().invoke(app, ["transfer", *base, "--train-per-class", "2", "--scratch-epochs", "1"])
    assert "expected model zfnet64 to train from scratch" in scratch.output


def test_training_from_scratch_learns_two_colours(pictures: Path) -> None:
    pytest.importorskip("lightning")
    from zfkernels.training import SMALL as RECIPE
    from zfkernels.training import new_network
    from zfkernels.training.scratch import predict, train_from_scratch

    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(32) % 2
    images = torch.randint(0, 120, (32, 3, 64, 64), generator=generator, dtype=torch.uint8)
    images[torch.arange(32), labels] += 120
    torch.manual_seed(0)
    recipe = RECIPE.with_budget(6, 8)
    network = train_from_scratch(new_network("zfnet64", 2, scale=0.1), images[:24], labels[:24], recipe=recipe)
    assert float((predict(network, images[24:], recipe) == labels[24:]).double().mean()) >= 0.75
    import dataclasses

    with pytest.raises(ValueError, match="expected recipe with a cosine schedule and a mean"):
        train_from_scratch(network, images, labels, recipe=dataclasses.replace(recipe, mean=None))

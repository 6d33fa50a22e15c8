"""Training on a few synthetic pictures: the recipe's parts, resuming, divergence, evaluation."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from support.pictures import make_classes
from torch import Tensor, nn

pytest.importorskip("lightning")

import lightning.pytorch as pl

from zfkernels import training
from zfkernels.models.network import ConvNet
from zfkernels.training.crops import center_crop, random_crop, ten_crop
from zfkernels.training.data import mean_image
from zfkernels.training.images import DecodedImages, LabelledImages, class_of

TINY = dataclasses.replace(training.SMALL, epochs=3, batch_size=6, stored_size=10, padding=1, max_rms=0.1)
PAPERLIKE = dataclasses.replace(training.PAPER, epochs=3, batch_size=6, stored_size=10)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_classes(tmp_path_factory.mktemp("pictures"), 8, 4, 10, 12)


class Interrupted(Exception):
    """Stands for a killed process."""


class TinyNet(ConvNet):
    """Dropout and batch normalisation included; may fail or yield NaN at one of its training steps."""

    def __init__(self, *, fails_at: int = -1, nan_at: int = -1) -> None:
        torch.manual_seed(5)
        features = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU())
        classifier = nn.Sequential(nn.Linear(36, 16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 3))
        super().__init__(features, classifier, input_size=8)
        self.fails_at, self.nan_at, self.steps = fails_at, nan_at, 0

    def forward(self, images: Tensor) -> Tensor:
        outputs = super().forward(images)
        if self.training:
            self.steps += 1
            if self.steps == self.fails_at:
                raise Interrupted
            if self.steps == self.nan_at:
                return outputs * math.nan
        return outputs


def run(model: TinyNet, data: Path, out: Path, **options: object) -> dict[str, float]:
    options = {"recipe": TINY, "precision": "32-true", "progress": False, "devices": 1, **options}
    return training.train(model, data, out, **options)  # type: ignore[arg-type]


def test_a_run_learns_and_leaves_its_files(pictures: Path, tmp_path: Path) -> None:
    model, recipe = TinyNet(), dataclasses.replace(TINY, epochs=8)
    result = run(model, pictures, tmp_path, recipe=recipe, keep_epochs=(0, 2))
    with open(tmp_path / "learning_curve.csv", encoding="utf-8") as file:
        curve = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in curve] == list(range(1, 9))
    assert float(curve[-1]["train_loss"]) < float(curve[0]["train_loss"])
    assert result["val_top1"] == float(curve[-1]["val_top1"]) >= 0.9  # chance: 1/3
    assert result["val_top5"] == 1.0  # of three classes
    summary = json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))
    assert summary["recipe"]["epochs"] == 8
    assert summary["classes"] == ["class0", "class1", "class2"]
    assert {path.name for path in (tmp_path / "evolution").iterdir()} == {
        "epoch-000.safetensors",
        "epoch-002.safetensors",
    }
    assert not list(tmp_path.rglob(".?*.zfkernels*"))
    for name in ("best.ckpt", "last.ckpt"):
        state = torch.load(tmp_path / "checkpoints" / name, weights_only=True)
        assert state["state_dict"]["model.features.0.weight"].shape == (4, 3, 3, 3)
    from safetensors.torch import load_file

    saved = load_file(tmp_path / "weights.safetensors")
    assert not any("running_mean" in name for name in saved)  # the inference form
    assert all(tensor.isfinite().all() for tensor in saved.values())


@pytest.mark.parametrize("recipe", [TINY, PAPERLIKE], ids=["cosine", "plateau"])
@pytest.mark.parametrize("cached", [True, False], ids=["cached", "decoded-on-access"])
def test_resuming_gives_the_weights_of_an_unbroken_run(
    pictures: Path, tmp_path: Path, recipe: training.Recipe, cached: bool
) -> None:
    cache = tmp_path / "cache" if cached else None
    unbroken, resumed = TinyNet(), TinyNet()
    expected = run(unbroken, pictures, tmp_path / "unbroken", recipe=recipe, cache=cache)
    with pytest.raises(Interrupted):
        run(TinyNet(fails_at=10), pictures, tmp_path / "broken", recipe=recipe, cache=cache)  # epoch 3 of 4 steps each
    with torch.no_grad():
        resumed.classifier[0].weight.zero_()  # must come from the checkpoint
    result = run(resumed, pictures, tmp_path / "broken", recipe=recipe, cache=cache)
    assert resumed.steps == 4
    for name, tensor in unbroken.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name
    assert result | {"seconds": 0} == expected | {"seconds": 0}
    # Once more: nothing is left to do, and the result is the same.
    again = TinyNet()
    assert run(again, pictures, tmp_path / "broken", recipe=recipe, cache=cache) == result
    assert again.steps == 0
    assert torch.equal(again.classifier[0].weight, unbroken.classifier[0].weight)


def test_another_run_is_not_gone_on_with(pictures: Path, tmp_path: Path) -> None:
    run(TinyNet(), pictures, tmp_path)
    kept = (tmp_path / "checkpoints" / "last.ckpt").read_bytes()
    for changed in ({"schedule": "constant"}, {"learning_rate": 0.5}, {"weight_decay": 0.0}):
        (name,) = changed
        with pytest.raises(ValueError, match=rf"expected {name} of the run that .* holds, .*, got .*\(--fresh\)"):
            run(TinyNet(), pictures, tmp_path, recipe=dataclasses.replace(TINY, **changed))
    with pytest.raises(ValueError, match=r"expected seed of the run that .* holds, 0, got 1; resume=False"):
        run(TinyNet(), pictures, tmp_path, seed=1)
    assert (tmp_path / "checkpoints" / "last.ckpt").read_bytes() == kept
    longer = run(TinyNet(), pictures, tmp_path, recipe=dataclasses.replace(TINY, epochs=TINY.epochs + 1))
    assert longer["epoch"] == TINY.epochs + 1
    assert run(TinyNet(), pictures, tmp_path, seed=1, resume=False)["epoch"] == TINY.epochs


def test_a_time_limit_ends_the_run_with_the_learning_rate_at_zero(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, recipe = TinyNet(), dataclasses.replace(TINY, epochs=1000)
    elapsed = iter(range(10_000))  # seconds: one more at each look at the clock
    monkeypatch.setattr("lightning.pytorch.callbacks.Timer.time_elapsed", lambda *_: float(next(elapsed)))
    rates = []
    forward = training.Classifier.training_step

    def record(self: training.Classifier, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        rates.append(self.optimizers().param_groups[0]["lr"])
        return forward(self, batch, index)

    monkeypatch.setattr(training.Classifier, "training_step", record)
    run(model, pictures, tmp_path, recipe=dataclasses.replace(recipe, warmup_epochs=0), max_minutes=1)
    assert 10 < model.steps <= 60  # of 4000
    assert rates[0] > 0.99 * recipe.learning_rate
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] < 0.02 * recipe.learning_rate
    assert (tmp_path / "weights.safetensors").exists()


def test_a_constant_schedule_stays_at_the_highest_rate_after_the_warm_up(pictures: Path, tmp_path: Path) -> None:
    recipe = dataclasses.replace(TINY, schedule="constant", warmup_epochs=1)
    run(TinyNet(), pictures, tmp_path, recipe=recipe)
    curve = (tmp_path / "learning_curve.csv").read_text().splitlines()[1:]
    rates = [float(line.split(",")[1]) for line in curve]
    assert rates[0] < recipe.learning_rate  # of an epoch's first step
    assert rates[1:] == [recipe.learning_rate] * (recipe.epochs - 1)


def test_another_seed_gives_another_run(pictures: Path, tmp_path: Path) -> None:
    first, second = TinyNet(), TinyNet()
    run(first, pictures, tmp_path / "0", seed=0)
    run(second, pictures, tmp_path / "1", seed=1)
    assert not torch.equal(first.classifier[0].weight, second.classifier[0].weight)


def test_divergence_keeps_the_last_good_checkpoint(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(training.Diverged, match=r"the loss became nan in epoch 3, step 1; the last good .*last\.ckpt"):
        run(TinyNet(nan_at=10), pictures, tmp_path)
    state = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert state["epoch"] == 1  # counted from 0: the second epoch
    assert all(tensor.isfinite().all() for tensor in state["state_dict"].values())
    assert not (tmp_path / "weights.safetensors").exists()
    with pytest.raises(training.Diverged, match="epoch 1, step 0; there is no checkpoint yet"):
        run(TinyNet(nan_at=1), pictures, tmp_path / "at once")


def test_a_learning_curve_shows_losses_errors_and_rates() -> None:
    from zfkernels.training.callbacks import LearningCurve
    from zfkernels.viz import learning_curve_figure

    names = LearningCurve.COLUMNS
    rows = [dict(zip(names, row, strict=True)) for row in ((1, 0.1, 3, 2, 0.25, 0.5, 9), (2, 0.05, 2, 1, 0.5, 0.75, 9))]
    lines = [[line.get_ydata() for line in axes.lines] for axes in learning_curve_figure(rows).axes]
    expected = [[[3, 2], [2, 1]], [[75, 50], [50, 25]], [[0.1, 0.05]]]
    assert [[list(values) for values in panel] for panel in lines] == expected


class PlainModule(pl.LightningModule):
    """Somebody else's Lightning module."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(2, 1))
        nn.init.constant_(self.net[0].weight, 0.5)

    def training_step(self, batch: list[Tensor], batch_index: int) -> Tensor:
        return self.net(batch[0]).sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1e-3)


@pytest.mark.parametrize("renormalize", [True, False])
def test_renormalize_filters_serves_any_lightning_module(tmp_path: Path, renormalize: bool) -> None:
    module = PlainModule()
    trainer = pl.Trainer(
        max_steps=2,
        accelerator="cpu",
        callbacks=[training.RenormalizeFilters(0.1)] if renormalize else [],
        default_root_dir=tmp_path,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.rand(4, 1, 3, 3))))
    rms = module.net[0].weight.flatten(1).square().mean(1).sqrt()
    assert bool((rms <= 0.1 * (1 + 1e-6)).all()) == renormalize


@pytest.mark.parametrize("crops", ["center", "ten"])
def test_evaluate_against_a_loop(pictures: Path, crops: str) -> None:
    models = [TinyNet(), TinyNet()]
    nn.init.normal_(models[1].classifier[3].weight)
    images = LabelledImages(pictures, "val", 10)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (TINY.mean, TINY.std))
    hits = 0
    for index in range(len(images)):
        picture, label = images[index]
        padded = nn.functional.pad((picture / 255 - mean) / std, [1] * 4)  # 12 x 12
        starts = [(2, 2)] if crops == "center" else [(0, 0), (0, 4), (4, 0), (4, 4), (2, 2)]
        views = [padded[:, y : y + 8, x : x + 8] for y, x in starts]
        views += [view.flip(2) for view in views] if crops == "ten" else []
        total = torch.zeros(3)
        for model in models:
            for view in views:
                with torch.no_grad():
                    total += model.eval()(view[None])[0].softmax(0)
        hits += int(total.argmax()) == label
    result = training.evaluate(models, pictures, recipe=TINY, crops=crops, batch_size=5, progress=False)
    assert result == {"top1": hits / 12, "top5": 1.0, "images": 12.0}


def test_an_ensemble_averages_probabilities_not_outputs(pictures: Path, tmp_path: Path) -> None:
    for label, count in enumerate((1, 2, 1)):
        folder = tmp_path / "val" / f"class{label}"
        folder.mkdir(parents=True)
        for index in range(count):
            shutil.copy(pictures / "val" / "class0" / f"{index}.png", folder)
    models = [TinyNet() for _ in range(3)]
    for model, bias in zip(models, ([500.0, 0, 0], [0, 50.0, 0], [0, 50.0, 0]), strict=True):
        with torch.no_grad():
            model.classifier[3].bias.copy_(torch.tensor(bias))
    result = training.evaluate(models, tmp_path, recipe=TINY, progress=False)
    assert result["top1"] == 2 / 4  # two of three are sure of class 1; the outputs' mean would say class 0


def test_evaluate_counts_the_five_best(pictures: Path, tmp_path: Path) -> None:
    for label in range(7):
        shutil.copytree(pictures / "val" / "class0", tmp_path / "val" / f"class{label}")
    model = TinyNet()
    model.classifier[3] = nn.Linear(16, 7)
    with torch.no_grad():
        model.classifier[3].weight.zero_()
        model.classifier[3].bias.copy_(torch.arange(7.0))  # always 6, 5, 4, 3, 2, 1, 0
    result = training.evaluate(model, tmp_path, recipe=TINY, progress=False)
    assert (result["top1"], result["top5"]) == (1 / 7, 5 / 7)
    with pytest.raises(ValueError, match="expected data of at most 3 classes, got 7"):
        training.evaluate(TinyNet(), tmp_path, recipe=TINY, progress=False)


def test_decoded_images_equal_those_decoded_on_access(pictures: Path, tmp_path: Path) -> None:
    archive = shutil.make_archive(str(tmp_path / "pictures"), "zip", pictures)
    labelled = LabelledImages(archive, "train", 10)
    decoded = DecodedImages(labelled, tmp_path / "cache", progress=False)
    images, labels = decoded.__getitems__([23, 0, 9])
    for place, index in enumerate([23, 0, 9]):
        assert torch.equal(images[place], labelled[index][0])
        assert torch.equal(images[place], LabelledImages(pictures, "train", 10)[index][0])
        assert labels[place] == labelled[index][1] == index // 8
    (file,) = (tmp_path / "cache").iterdir()
    before = file.stat().st_mtime_ns
    DecodedImages(labelled, tmp_path / "cache", progress=False)
    assert file.stat().st_mtime_ns == before  # decoded once
    assert torch.allclose(mean_image(decoded), mean_image(labelled))
    expected = torch.stack([labelled[index][0] for index in range(24)]).double().mean(0) / 255
    torch.testing.assert_close(mean_image(labelled), expected.float())


def test_crops() -> None:
    images = torch.arange(2 * 3 * 6 * 7.0).view(2, 3, 6, 7) + 1
    assert torch.equal(center_crop(images, 4), images[:, :, 1:5, 1:5])
    ten = ten_crop(images, 4)
    corners = [(0, 0), (0, 3), (2, 0), (2, 3), (1, 1)]
    for place, (y, x) in enumerate(corners):
        assert torch.equal(ten[:, place], images[:, :, y : y + 4, x : x + 4])
        assert torch.equal(ten[:, place + 5], ten[:, place].flip(3))
    padded = nn.functional.pad(images, [1] * 4)  # 8 x 9
    places = {
        (tuple(view[n].flatten().tolist()), n): (y, x, mirrored)
        for y in range(5)
        for x in range(6)
        for mirrored in (False, True)
        for n in range(2)
        for view in [padded[:, :, y : y + 4, x : x + 4].flip(3) if mirrored else padded[:, :, y : y + 4, x : x + 4]]
    }
    seen = set()
    for _ in range(600):
        for n, crop in enumerate(random_crop(images, 4, padding=1)):
            seen.add(places[tuple(crop.flatten().tolist()), n])  # a KeyError: no crop of this image
    assert seen == {(y, x, mirrored) for y in range(5) for x in range(6) for mirrored in (False, True)}


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("train/n01/000.webp", "n01"),
        ("tiny/train/n01/000.webp", "n01"),
        ("tiny/train/n01/images/000.webp", "n01"),
        ("tiny/val/n01/000.webp", None),
        ("tiny/train/000.webp", None),
        ("train.webp", None),
    ],
)
def test_class_of_a_key(key: str, expected: str | None) -> None:
    assert class_of(key, "train") == expected


def test_bad_data_is_refused_in_one_sentence(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"got .*missing"):
        run(TinyNet(), tmp_path / "missing", tmp_path / "out")
    shutil.copytree(pictures / "train", tmp_path / "data" / "train")
    with pytest.raises(ValueError, match=r"expected source with images in val/<class>/, got none in"):
        run(TinyNet(), tmp_path / "data", tmp_path / "out")
    shutil.copytree(pictures / "val", tmp_path / "data" / "val")
    (tmp_path / "data" / "val" / "class2").rename(tmp_path / "data" / "val" / "class9")
    with pytest.raises(ValueError, match="expected the same classes in train and val, got 'class2' in one only"):
        run(TinyNet(), tmp_path / "data", tmp_path / "out")
    shutil.rmtree(tmp_path / "data" / "train" / "class1")
    shutil.rmtree(tmp_path / "data" / "train" / "class2")
    with pytest.raises(ValueError, match="expected source of at least 2 classes, got only 'class0' in train"):
        run(TinyNet(), tmp_path / "data", tmp_path / "out")
    with pytest.raises(ValueError, match="expected stored_size of at least 8, got 5"):
        run(TinyNet(), pictures, tmp_path / "out", recipe=dataclasses.replace(TINY, stored_size=5))
    assert not (tmp_path / "out").exists()


def test_a_broken_image_is_named_and_no_half_decoded_file_is_left(pictures: Path, tmp_path: Path) -> None:
    shutil.copytree(pictures, tmp_path / "data")
    (tmp_path / "data" / "train" / "class1" / "3.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"train/class1/3\.png cannot be used"):
        DecodedImages(LabelledImages(tmp_path / "data", "train", 10), tmp_path / "cache", progress=False)
    assert list((tmp_path / "cache").iterdir()) == []


def test_recipes_are_checked() -> None:
    with pytest.raises(ValueError, match="expected schedule one of plateau, cosine, constant, got 'linear'"):
        dataclasses.replace(TINY, schedule="linear")
    with pytest.raises(ValueError, match="expected epochs > 0, got 0"):
        dataclasses.replace(TINY, epochs=0)
    with pytest.raises(ValueError, match="expected crops one of center, ten, got 'all'"):
        training.evaluate(TinyNet(), ".", crops="all")
    with pytest.raises(ValueError, match="expected models at least one network, got none"):
        training.evaluate([], ".")


def test_the_missing_extra_is_named() -> None:
    program = "import sys; sys.modules['lightning'] = None\nimport zfkernels.training"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "pip install 'zfkernels[train]'" in result.stderr.splitlines()[-1]


def test_an_interruption_is_one(pictures: Path, tmp_path: Path) -> None:
    """Lightning makes an exit of it, which a command line would not tell from a failure."""

    class Impatient(pl.Callback):
        def on_train_batch_start(self, *_: object) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(TinyNet(), pictures, tmp_path, callbacks=[Impatient()])


def test_a_batch_larger_than_the_data(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"train: expected batch_size of at most the \d+ training images, got 1000"):
        run(TinyNet(), pictures, tmp_path, recipe=dataclasses.replace(TINY, batch_size=1000))

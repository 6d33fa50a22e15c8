"""Evolution: the strongest activations against a loop, jumps, what a training leaves, the callback and the command."""

from __future__ import annotations

import copy
import csv
import dataclasses
import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from torch import Tensor, nn

import zfkernels as zf
from zfkernels.analysis.evolution import evolution, pick_maps, strongest_projections
from zfkernels.cli.app import app
from zfkernels.deconvnet import DeconvNet
from zfkernels.results import Evolution, LayerEvolution


def network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 5, 3), nn.ReLU()).eval()
    nn.init.constant_(model[3].bias, 1.0)  # every map answers to some image
    return model


IMAGES = torch.randn(7, 3, 16, 16, generator=torch.Generator().manual_seed(2))
MAPS = {"1": torch.tensor([0, 3]), "4": torch.tensor([1, 2, 4])}


def test_strongest_activations_against_a_loop() -> None:
    model = network(0)
    found = strongest_projections(model, IMAGES, MAPS, batch_size=3)
    net = DeconvNet(model)
    for layer, maps in MAPS.items():
        values = net.network.activations(IMAGES, [layer])[layer]
        for m, channel in enumerate(maps.tolist()):
            peak = values[:, channel].flatten(1).amax(1)
            image = int(peak.argmax())
            assert int(found[layer].image[0, m]) == image
            assert float(found[layer].value[0, m]) == pytest.approx(float(peak[image]))
            projection = net.project(IMAGES[image : image + 1], layer, channels=channel)
            assert found[layer].position[0, m].tolist() == projection.position[0].tolist()
            # A tile is the projection's receptive field: nothing of it is left out, wherever it lies.
            tile = found[layer].tiles[0, m]
            torch.testing.assert_close(tile.sum(), projection.dense().sum())
            (patch,) = [projection.dense()[0][:, t:b, x:r] for t, x, b, r in projection.receptive_field.tolist()]
            if patch.shape == tile.shape:
                torch.testing.assert_close(tile, patch)
    assert found["1"].tiles.shape[2:] == (3, 3, 3)
    assert found["4"].tiles.shape[2:] == (3, 13, 13)  # 3 + 2 * (2 - 1) + 4 * (3 - 1)


def test_jumps_similarity_and_one_image_followed() -> None:
    first, last = network(0), network(1)
    result = evolution([(0, first), (3, copy.deepcopy(first)), (9, last)], IMAGES, MAPS)
    assert result.epochs.tolist() == [0, 3, 9]
    for layer in result.layers:
        assert not layer.jumps[0].any()
        assert not layer.jumps[1].any()  # the same network
        assert torch.equal(layer.jumps[2], layer.image[2] != layer.image[1])
        alive = layer.image[2] >= 0
        torch.testing.assert_close(layer.similarity[2][alive], torch.ones(int(alive.sum())))
        assert layer.fixed is not None
        torch.testing.assert_close(layer.fixed[2][alive], torch.ones(int(alive.sum())))
        for m in alive.nonzero().flatten().tolist():
            image, channel = IMAGES[layer.image[2, m]][None], int(layer.maps[m])
            a, b = (zf.DeconvNet(n).project(image, layer.layer, channels=channel).dense() for n in (first, last))
            expected = torch.nn.functional.cosine_similarity(a.flatten(), b.flatten(), dim=0)
            if a.any() and b.any():
                assert float(layer.fixed[0, m]) == pytest.approx(float(expected), abs=1e-5)


def test_when_features_settle() -> None:
    nan = float("nan")
    image = torch.tensor([[1, 1, 1], [1, 2, 4], [1, 2, 5], [1, 2, 5]])
    fixed = torch.tensor([[0.95, 0.9, 0.9], [0.5, 0.6, 0.7], [0.95, 0.9, nan], [1.0, 1.0, 1.0]])
    layer = LayerEvolution("1", torch.arange(3), image, image.double(), image[..., None], image.float(), fixed)
    soon = torch.full((4, 3), 0.95)
    soon[:, 1] = nan  # a map that is dead at the end does not count
    others = [dataclasses.replace(layer, layer="2", fixed=soon),
              dataclasses.replace(layer, layer="3", fixed=torch.full((4, 3), nan))]  # fmt: skip
    result = Evolution(torch.tensor([0, 2, 5, 9]), (layer, *others))
    torch.testing.assert_close(layer.convergence, torch.tensor([2.75 / 3, 1.8 / 3, 1.85 / 3, 1.0]))
    assert result.settled_from() == {"1": 9, "2": 0, "3": None}  # 0.92 at epoch 0 is not the end
    assert result.settled_from(0.61) == {"1": 5, "2": 0, "3": None}
    assert result.settled_from(1.0) == {"1": 9, "2": 9, "3": None}
    assert {name: found.tolist() for name, found in result.last_changes().items()} == {
        name: [0, 2, 5] for name in "123"
    }
    assert result.overview()[0]["last change of the strongest image, median"] == 2
    for least in (0.0, 1.5, nan):
        with pytest.raises(ValueError, match=r"settled_from: expected least above 0 and at most 1, got"):
            result.settled_from(least)


def test_a_dead_map_has_no_strongest_image() -> None:
    model = network(0)
    with torch.no_grad():
        model[0].bias[3] = -1e3
    found = strongest_projections(model, IMAGES, MAPS)["1"]
    assert found.image[0, 1] == -1
    assert found.image[0, 0] >= 0
    assert not found.tiles[0, 1].any()


def test_maps_are_picked_by_seed() -> None:
    net = DeconvNet(network(0))
    one, same, other = (pick_maps(net, ["4"], 3, image_size=(16, 16), seed=seed)["4"] for seed in (0, 0, 4))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert len(pick_maps(net, ["4"], 99, image_size=(16, 16))["4"]) == 5
    with pytest.raises(ValueError, match="at least one layer and count ≥ 1"):
        pick_maps(net, [], 3, image_size=(16, 16))


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match=r"expected maps of 1 from 0 to 3, got \[4\]"):
        strongest_projections(network(0), IMAGES, {"1": torch.tensor([4])})
    with pytest.raises(ValueError, match="expected images and maps, got 0 images"):
        strongest_projections(network(0), IMAGES[:0], MAPS)
    with pytest.raises(ValueError, match=r"expected snapshots of rising epochs, got \[2, 1\]"):
        evolution([(2, network(0)), (1, network(1))], IMAGES, MAPS)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, object]:
    """A tiny training of zfnet64 with the callback: its data, its folder, the callback."""
    pytest.importorskip("lightning")
    from zfkernels import training

    root = tmp_path_factory.mktemp("evolution")
    generator = torch.Generator().manual_seed(1)
    for split, count in (("train", 4), ("val", 2)):
        for label in range(2):
            folder = root / "data" / split / f"class{label}"
            folder.mkdir(parents=True)
            for n in range(count):
                pixels = torch.randint(0, 120, (64, 64, 3), generator=generator)
                pixels[..., label] += 120
                Image.fromarray(pixels.to(torch.uint8).numpy()).save(folder / f"{n}.png")
    torch.manual_seed(0)
    model = training.new_network("zfnet64", 2, scale=0.1)
    callback = training.FeatureEvolution(
        model, root / "evolution.safetensors", ["features.1", "features.13"], epochs=(0, 2), maps=3
    )
    training.train(
        model, root / "data", root / "run", recipe=training.SMALL.with_budget(2, 4), precision="32-true",
        devices=1, keep_epochs=(0, 1, 2), callbacks=[callback], progress=False,
    )  # fmt: skip
    return root / "data", root / "run", callback


def test_callback_sees_what_the_kept_weights_show(run: tuple[Path, Path, object]) -> None:
    from safetensors.torch import load_file

    from zfkernels.models import get_model
    from zfkernels.training import FeatureEvolution, TrainingImages

    data, folder, callback = run
    assert isinstance(callback, FeatureEvolution)
    result = callback.result
    assert result.epochs.tolist() == [0, 2]
    networks = [get_model("zfnet64", folder / "evolution" / f"epoch-{epoch:03d}.safetensors") for epoch in (0, 2)]
    images = TrainingImages.of_run(folder, data, networks[0], progress=False)
    maps = {layer.layer: layer.maps for layer in result.layers}
    again = evolution(list(zip((0, 2), networks, strict=True)), images, maps)
    saved = load_file(folder.parent / "evolution.safetensors")
    for one, other in zip(result.layers, again.layers, strict=True):
        assert torch.equal(one.image, other.image)
        torch.testing.assert_close(one.tiles, other.tiles, rtol=1e-4, atol=1e-5)
        assert torch.equal(saved[f"{one.layer}.tiles"], one.tiles)
    state: dict[str, Tensor] = callback.state_dict()
    resumed = FeatureEvolution(nn.Identity(), "unused", ["features.1", "features.13"])
    resumed.load_state_dict(state)
    assert torch.equal(resumed.result.layers[1].tiles, result.layers[1].tiles)


def test_command(run: tuple[Path, Path, object], tmp_path: Path) -> None:
    data, folder, _ = run
    base = ["evolve", "--run", str(folder), "--data", str(data), "--out", str(tmp_path / "out"), "--json"]
    result = CliRunner().invoke(app, [*base, "--maps", "2", "--follow", "4", "--layers", "features.1,features.5"])
    assert result.exit_code == 0, result.output
    record = json.loads((tmp_path / "out" / "evolution.json").read_text())
    assert record["epochs"] == [0, 1, 2]
    for found in record["layers"].values():
        assert found["convergence"][-1] == pytest.approx(1, abs=1e-5)
        assert found["settled_from_epoch"] in (0, 1, 2)
        assert len(found["last_change_of_strongest_image"]) == len(found["maps"])
    assert record["images"] == 8
    with open(tmp_path / "out" / "evolution.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 4 * 3
    with Image.open(tmp_path / "out" / "evolution.png") as sheet:
        assert sheet.width > 300
    drawn = CliRunner().invoke(app, [*base, "--layers", "features.1", "--format", "svg"])
    assert drawn.exit_code == 0, drawn.output
    for name in ("evolution", "convergence"):
        assert (tmp_path / "out" / f"{name}.svg").read_text(encoding="utf-8").startswith("<?xml")
    failed = CliRunner().invoke(app, [*base, "--epochs", "7"])
    assert failed.exit_code == 1
    assert "expected epochs of [0, 1, 2], got 7" in failed.output
    nowhere = CliRunner().invoke(app, ["evolve", "--run", str(tmp_path), "--data", str(data), "--out", "x"])
    assert "expected run a folder with evolution/epoch-NNN.safetensors" in nowhere.output

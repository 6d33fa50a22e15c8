"""What the explorer answers is what the network computes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from exploring import EVIL, LAYER, NAMES, SIZE, SMALL, blocks, classifier, explorer_of
from PIL import Image
from torch import nn

import zfkernels
from zfkernels.data import open_source
from zfkernels.data.source import UnreadableImageError
from zfkernels.serve import Explorer
from zfkernels.serve.explorer import Square, hide
from zfkernels.serve.network import Network
from zfkernels.serve.photos import Photo, Photos
from zfkernels.serve.sweep import SweepOptions, grid, pieces, plan


@pytest.fixture
def photo() -> Photo:
    return Photo("x", "x", None, SMALL(blocks(0))[None])


def hidden(photo: Photo, top: int, left: int, side: int) -> torch.Tensor:
    image = photo.image.clone()
    image[:, :, max(0, top) : top + side, max(0, left) : left + side] = 0
    return image


def below(layer: str, image: torch.Tensor) -> torch.Tensor:
    return classifier()[: int(layer) + 1](image)[0].detach()


def test_answers_are_the_networks(explorer: Explorer, photo: Photo) -> None:
    shares = classifier()(photo.image)[0].softmax(0)
    found = explorer.answers(photo)
    assert [entry["class"] for entry in found] == shares.argsort(descending=True).tolist()
    assert [entry["name"] for entry in found] == [NAMES[entry["class"]] for entry in found]
    assert [entry["probability"] for entry in found] == pytest.approx(sorted(shares.tolist(), reverse=True))


def test_maps_have_their_strongest_place(explorer: Explorer, photo: Photo) -> None:
    maps = below(LAYER, photo.image)
    rows = explorer.maps(photo, LAYER)
    assert [row[0] for row in rows] == list(range(6))
    for channel, value, row, column, mean in rows:
        assert value == pytest.approx(float(maps[channel].max()))
        assert value == pytest.approx(float(maps[channel, row, column]))
        assert mean == pytest.approx(float(maps[channel].mean()), abs=1e-6)


@pytest.mark.parametrize("place", [None, (3, 15)])
def test_a_unit_is_the_deconvnets(explorer: Explorer, photo: Photo, place: tuple[int, int] | None) -> None:
    net = zfkernels.DeconvNet(classifier())
    truth = net.project(photo.image, LAYER, channels=2, position="max" if place is None else place)
    unit = explorer.unit(photo, LAYER, 2, place)
    assert torch.equal(unit.pixels, truth.dense()[0])
    assert unit.facts["field"] == truth.receptive_field[0].tolist()
    assert (unit.facts["row"], unit.facts["column"]) == tuple(truth.position[0].tolist())
    assert unit.facts["activation"] == pytest.approx(float(truth.activation[0]))


@pytest.mark.parametrize("square", [Square(4, 7, 9), Square(-3, 25, 12), Square(0, 0, SIZE), Square(-9, 0, 4)])
def test_a_probe_is_the_network_on_the_hidden_photo(explorer: Explorer, photo: Photo, square: Square) -> None:
    image = photo.image.clone()
    for row in range(SIZE):
        for column in range(SIZE):
            if 0 <= row - square.top < square.side and 0 <= column - square.left < square.side:
                image[..., row, column] = 0
    assert torch.equal(hide(photo.image, square), image)
    shares, clean = (classifier()(x)[0].softmax(0).detach() for x in (image, photo.image))
    found = explorer.probe(photo, square, LAYER, 1)
    assert found["best"][0]["class"] == int(shares.argmax())
    assert [entry["class"] for entry in found["usual"]] == clean.argsort(descending=True).tolist()
    for entry in (*found["best"], *found["usual"]):
        assert entry["probability"] == pytest.approx(float(shares[entry["class"]]))
    before, now = below(LAYER, photo.image)[1], below(LAYER, image)[1]
    place = int(before.argmax())
    expected = (float(before.max()), float(now.max()), float(now.flatten()[place]))
    assert tuple(found["map"].values()) == pytest.approx(expected)


@pytest.mark.parametrize("of_map", [False, True])
def test_a_sweep_in_pieces_is_the_network_on_every_hidden_photo(
    explorer: Explorer, photo: Photo, of_map: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zfkernels.serve.sweep.FIRST", 5)
    options = SweepOptions(8, 5, layer=LAYER if of_map else None, channel=1, target=None if of_map else 2)
    told = plan(explorer, photo, options)
    assert (told["rows"], told["columns"], told["total"]) == (6, 6, 36)
    parts = list(pieces(explorer, photo, options))
    assert len(parts[0]) == 5
    values = [value for part in parts for value in part]

    def truth(image: torch.Tensor) -> float:
        return float(below(LAYER, image)[1].sum() if of_map else classifier()(image)[0].softmax(0)[2].detach())

    expected = [truth(hidden(photo, 5 * (n // 6), 5 * (n % 6), 8)) for n in range(36)]
    assert values == pytest.approx(expected, rel=1e-4)
    assert told["clean"] == pytest.approx(truth(photo.image), rel=1e-4)


def test_the_grid_is_the_sweeps() -> None:
    for window, stride in ((8, 5), (7, 3), (24, 4), (1, 23)):
        whole = zfkernels.occlusion_sweep(classifier(), torch.randn(1, 3, 24, SIZE), window=window, stride=stride)
        assert torch.equal(grid((24, SIZE), SweepOptions(window, stride)), whole.positions.flatten(0, 1))


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (SweepOptions(33, 1), "expected window from 1 to 32, got 33"),
        (SweepOptions(8, 0), "expected stride for at most 64 places along a side, got 0"),
        (SweepOptions(8, 4, target=3), "expected target from 0 to 2, got 3"),
        (SweepOptions(8, 4, layer="none"), "expected layer one of the network's, got 'none'"),
        (SweepOptions(8, 4, layer=LAYER, channel=6), "expected map from 0 to 5 of layer '4', got 6"),
    ],
)
def test_a_sweep_that_cannot_be_is_refused(
    explorer: Explorer, photo: Photo, options: SweepOptions, problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        plan(explorer, photo, options)


def test_a_network_of_functions_that_says_no_classes_is_swept_too(photo: Photo) -> None:
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.relu(self.conv(x)).tanh()

    model = Functional().eval()
    explorer = explorer_of(model)
    (layer,) = (info.name for info in explorer.network.layers if "relu" in info.name)
    assert explorer.answers(photo) is None  # maps are no classes
    assert explorer.probe(photo, Square(0, 0, 9), layer, 1)["best"] is None
    options = SweepOptions(8, 12, layer=layer, channel=1)
    values = [value for part in pieces(explorer, photo, options) for value in part]
    truth = [model.conv(hidden(photo, 12 * (n // 3), 12 * (n % 3), 8)).relu()[0, 1].sum().item() for n in range(9)]
    assert values == pytest.approx(truth, rel=1e-4)
    with pytest.raises(ValueError, match="expected no target of a network without classes"):
        plan(explorer, photo, SweepOptions(8, 12))


def test_a_network_of_other_bands_is_refused_in_one_sentence() -> None:
    grey = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU()).eval()
    with pytest.raises(ValueError, match=r"images of 3 channels \(red, green, blue\), got x, which takes 1"):
        Network(grey, SMALL, "x")


def test_a_preprocessing_that_fails_on_one_photo_says_so(folder: Path) -> None:
    def choosy(picture: Image.Image) -> torch.Tensor:
        image = SMALL(picture)
        if torch.equal(image, SMALL(blocks(2))):
            raise KeyError("no such band")
        return image

    photos = Photos(choosy, open_source(folder))
    names = [key for key in photos.source.keys if EVIL in key]
    failed = []
    for name in names:
        try:
            photos.get(f"data-{photos.source.keys.index(name)}")
        except UnreadableImageError as error:
            failed.append((name, str(error)))
    assert failed == [(f"{EVIL}2.png", "KeyError: 'no such band'")]


def test_clean_passes_stay_within_their_budget(photo: Photo) -> None:
    one = Network(classifier(), SMALL, "small").clean(photo.image).size
    explorer = Explorer(Network(classifier(), SMALL, "small"), budget=3 * one)
    for n in range(8):
        explorer.answers(Photo(str(n), "", None, photo.image))
        assert explorer.held <= 3 * one
    assert explorer.clean(Photo("7", "", None, photo.image)) is explorer.clean(Photo("7", "", None, photo.image))


def test_values_that_are_no_numbers_are_none(photo: Photo) -> None:
    explorer = explorer_of(classifier())
    broken = Photo("nan", "", None, torch.full_like(photo.image, torch.nan))
    assert all(entry["probability"] is None for entry in explorer.answers(broken))
    assert all(row[1] is None for row in explorer.maps(broken, "0"))

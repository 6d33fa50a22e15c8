"""Patches from the pictures themselves: where a preprocessing's result lies in a picture, and what is cut there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from torch import Tensor, nn

from zfkernels.gallery import build_gallery
from zfkernels.gallery.originals import FACTOR, Originals, box_of, with_originals
from zfkernels.gallery.tiles import channel_tiles
from zfkernels.models import Preprocess, PreprocessFunction

transforms = pytest.importorskip("torchvision.transforms")
F = transforms.functional
NORMAL = transforms.Normalize((0.5, 0.4, 0.3), (0.2, 0.3, 0.4))


def composed(*steps: Any) -> PreprocessFunction:
    return PreprocessFunction(transforms.Compose([*steps, transforms.ToTensor(), NORMAL]))


SQUARE = composed(transforms.Resize(64), transforms.CenterCrop(48))
# (preprocessing, its part of a picture of 200 by 120 pixels: left, top, right, bottom)
KNOWN = {
    "torchvision": (SQUARE, (55, 15, 145, 105)),
    "the whole, warped": (composed(transforms.Resize((50, 50))), (0, 0, 200, 120)),
    "a corner": (composed(transforms.Lambda(lambda p: p.crop((20, 30, 120, 90)))), (20, 30, 120, 90)),
    "BGR": (PreprocessFunction(lambda p: F.to_tensor(p.resize((40, 40))).flip(0)), (0, 0, 200, 120)),
    "negative": (PreprocessFunction(lambda p: 1 - F.to_tensor(p.resize((40, 40)))), (0, 0, 200, 120)),
    "ours": (Preprocess(48, 64), (55, 15, 145, 105)),
}
UNKNOWN = {
    "mirrored": composed(transforms.RandomHorizontalFlip(1)),
    "turned": composed(
        transforms.Resize((50, 50)), transforms.Lambda(lambda p: p.transpose(Image.Transpose.ROTATE_90))
    ),
    "padded": composed(transforms.Pad(30), transforms.Resize((50, 50))),
    "of nothing": PreprocessFunction(lambda p: torch.zeros(3, 20, 20)),
    "broken": PreprocessFunction(lambda p: torch.zeros(3, 20)),
    "patches": PreprocessFunction(lambda p: F.to_tensor(p.resize((40, 40))).roll(20, 2)),
}


@pytest.mark.parametrize("name", KNOWN)
def test_where_a_result_lies(name: str) -> None:
    function, expected = KNOWN[name]
    assert box_of(function, (200, 120)) == pytest.approx(expected, abs=0.6)


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_is_no_upright_rectangle(name: str) -> None:
    assert box_of(UNKNOWN[name], (200, 120)) is None


@pytest.mark.parametrize("size", [(200, 120), (121, 333), (64, 64), (500, 375)])
def test_ours_is_known_as_it_is_measured(size: tuple[int, int]) -> None:
    ours = Preprocess(48, 64)
    assert box_of(ours, size) == pytest.approx(box_of(PreprocessFunction(ours), size), abs=0.8)


def checkered(width: int, height: int, cell: int) -> Image.Image:
    picture = Image.new("RGB", (width, height), (200, 30, 30))
    draw = ImageDraw.Draw(picture)
    for top in range(0, height, 2 * cell):
        for left in range(0, width, 2 * cell):
            draw.rectangle((left, top, left + cell - 1, top + cell - 1), (20, 220, 240))
    return picture


def test_what_is_cut() -> None:
    picture = checkered(400, 240, 12)
    cut = Originals(SQUARE, (48, 48), "RGB")(picture)
    assert cut.shape == (3, FACTOR * 48, FACTOR * 48)
    expected = picture.resize((96, 96), Image.Resampling.BICUBIC, (110, 30, 290, 210))
    found = cut.permute(1, 2, 0).numpy().astype(int)
    assert np.abs(found - np.asarray(expected)).mean() < 5
    assert np.abs(np.roll(found, 2, 1) - np.asarray(expected)).mean() > 10
    grey = Originals(SQUARE, (48, 48), "L")(picture)
    assert torch.equal(grey[0], grey[2])
    assert Originals(SQUARE, (48, 48), "RGB")(picture.resize((60, 60))) is None  # it has no more pixels than the input
    assert Originals(SQUARE, (48, 48), "RGB")(np.zeros((99, 99, 3), np.uint8)) is None


def test_images_without_an_original_are_enlarged() -> None:
    pixels = torch.rand(2, 3, 5, 6) * 255
    original = torch.randint(0, 256, (3, 10, 12), dtype=torch.uint8)
    found = with_originals(pixels, [None, original])
    assert torch.equal(found[1], original.float())
    assert found[0].mean() == pytest.approx(float(pixels[0].mean()), rel=0.1)
    assert with_originals(pixels, [None, None]) is pixels
    assert with_originals(pixels, []) is pixels


def edges(tiles: Tensor) -> float:
    """How much neighbouring pixels differ."""
    return float(tiles.float().diff(dim=-1).abs().mean())


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_gallery_has_sharper_patches(mirrored: bool, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for n in range(3):
        checkered(480, 480, 4).rotate(90 * n).save(tmp_path / "photos" / f"{n}.png")
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 9), nn.ReLU()).eval()
    flip = transforms.RandomHorizontalFlip(1) if mirrored else transforms.Lambda(lambda p: p)
    shrunk = composed(flip, transforms.Resize(60)).function
    gallery = build_gallery(model, tmp_path / "photos", layers=["1"], out=tmp_path / "out", top_k=2, workers=0,
                            progress=False, preprocess=shrunk)  # fmt: skip
    patches = torch.stack([edges(gallery.patches("1", channel)) * torch.ones(()) for channel in gallery.maps("1")])
    assert (float(patches.mean()) > 8) == (not mirrored)


def test_the_projection_of_each_channel(tmp_path: Path) -> None:
    cells = torch.zeros(2, 5, 9, 9)
    cells[0, 3], cells[1, 4] = 1, -1
    tiles = channel_tiles(cells, (40, 60))  # 2 rows of 3
    assert tiles[0, :, 20:, :20].float().mean() > 250  # the fourth is the first of the second row
    assert tiles[1, :, 20:, 20:40].float().mean() < 5
    assert tiles[0, :, :20].float().mean() == pytest.approx(128, abs=2)
    assert (tiles[:, :, 20:, 40:] == 0).all()
    np.save(tmp_path / "stack.npy", np.random.default_rng(0).random((4, 5, 20, 20), np.float32))
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(5, 4, 3), nn.ReLU()).eval()
    gallery = build_gallery(model, tmp_path / "stack.npy", layers=["1"], out=tmp_path / "out", top_k=2, workers=0,
                            progress=False)  # fmt: skip
    assert gallery.info["blocks"] == ["projections", "patches", "activations", "channels"]
    plain = build_gallery(model, tmp_path / "stack.npy", layers=["1"], out=tmp_path / "plain", top_k=2, workers=0,
                          progress=False, projections=False)  # fmt: skip
    assert plain.info["blocks"] == ["patches", "activations"]

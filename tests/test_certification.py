"""The example of certification: its masks hide every patch, and its verdicts are those of the whole network."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from zfkernels.data import embedded_photos, open_source
from zfkernels.models import get_model, get_preprocess

SCRIPT = Path(__file__).parent.parent / "examples" / "certification.py"


@pytest.fixture(scope="module")
def example() -> Any:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    spec = importlib.util.spec_from_file_location("certification", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("side", "patch", "count"), [(64, 3, 6), (64, 12, 2), (31, 5, 4), (10, 10, 3), (12, 1, 12)])
def test_every_patch_lies_inside_a_mask_and_every_mask_in_the_image(
    example: Any, side: int, patch: int, count: int
) -> None:
    places, width = example.masks(side, patch, count)
    assert len(places) == count**2
    assert int(places.min()) >= 0
    assert int(places.max()) + width <= side
    firsts = {int(row) for row, _ in places}
    for patch_first in range(side - patch + 1):
        assert any(first <= patch_first and patch_first + patch <= first + width for first in firsts)


@torch.no_grad()
def dense(model: nn.Module, images: Tensor, places: Tensor, width: int) -> Tensor:
    """bool [N, masks, masks], by the network on every image with two masks."""
    clean = model(images).argmax(1)
    changed = torch.zeros(len(images), len(places), len(places), dtype=torch.bool)
    for a, first in enumerate(places.tolist()):
        for b, second in enumerate(places.tolist()):
            masked = images.clone()
            for row, column in (first, second):
                masked[:, :, row : row + width, column : column + width] = 0
            changed[:, a, b] = model(masked).argmax(1) != clean
    return changed


def test_verdicts_of_the_whole_network(example: Any) -> None:
    photos, preprocess, model = embedded_photos(), get_preprocess("zfnet64"), get_model("zfnet64")
    keys = ["coffee", "coffee/400/0-200", "chelsea"]
    images = torch.stack([preprocess(photos.picture(key)) for key in keys])
    found = example.changes_of_mind(model, images, patch=8, count=3)
    assert torch.equal(found, dense(model, images, *example.masks(64, 8, 3)))
    assert 0 < int(found.sum()) < found.numel()


def test_verdicts_of_squeezenet_on_real_photos(example: Any, shared_data: Path) -> None:
    model = get_model("squeezenet1_1", weights=shared_data / "squeezenet1_1_imagenet.pt")
    source, preprocess = open_source(shared_data / "ccby64"), get_preprocess("squeezenet1_1")
    images = torch.stack([preprocess(source.load(number)[0]) for number in (0, 1)])
    found = example.changes_of_mind(model, images, patch=16, count=2)
    assert torch.equal(found, dense(model, images, *example.masks(224, 16, 2)))

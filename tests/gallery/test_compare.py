"""Two galleries beside each other: which maps are paired, what is said of them, and the page in a browser."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from small import OPTIONS, other_network, small_network

from zfkernels.cli.app import app
from zfkernels.gallery import Gallery, build_gallery, compare_galleries


def permuted() -> torch.nn.Sequential:
    """The small network with the maps of its last layer in another order."""
    model = small_network()
    order = torch.tensor([3, 0, 5, 1, 2, 4])
    with torch.no_grad():
        model[3].weight.copy_(model[3].weight[order])
        model[3].bias.copy_(model[3].bias[order])
    return model


@pytest.fixture(scope="module")
def galleries(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Gallery, Gallery]:
    root = tmp_path_factory.mktemp("two")
    one, other = (
        build_gallery(model, photos, out=root / name, maxima=True, **OPTIONS)
        for name, model in (("before", small_network()), ("after", permuted()))
    )
    return one, other


def test_maps_that_answer_most_alike(galleries: tuple[Gallery, Gallery], tmp_path: Path) -> None:
    one, other = galleries
    _, pairs = compare_galleries(one, other, tmp_path / "out", match="correlation")
    mine = {pair.channel: pair for pair in pairs if pair.layer == "4"}
    assert sorted(mine) == one.maps("4")
    for channel, pair in mine.items():
        assert pair.correlation == pytest.approx(1, abs=1e-3)
        if pair.other_layer == "4":  # no map of another layer is as much alike
            assert [3, 0, 5, 1, 2, 4][pair.other_channel] == channel
            assert pair.shared == len({row["image"] for row in one.winners("4", channel)})


def test_the_same_maps(galleries: tuple[Gallery, Gallery], tmp_path: Path) -> None:
    one, other = galleries
    page, pairs = compare_galleries(one, other, tmp_path / "out")
    rows = one.maxima.used
    for pair in pairs:
        assert (pair.layer, pair.channel) == (pair.other_layer, pair.other_channel)
        a, b = (g.maxima.values[rows, g.maxima.column(pair.layer, pair.channel)].astype(float) for g in galleries)
        if pair.correlation is not None:
            assert pair.correlation == pytest.approx(np.corrcoef(a, b)[0, 1], abs=1e-3)
    assert page.name == "compare.html"


def test_without_maxima(gallery: Gallery, photos: Path, tmp_path: Path) -> None:
    other = build_gallery(other_network(), photos, out=tmp_path / "other", **OPTIONS)
    _, pairs = compare_galleries(gallery, other, tmp_path / "other")  # beside the gallery's own page
    assert {pair.correlation for pair in pairs} == {None}
    assert all(pair.shared for pair in pairs if pair.layer == "0")  # whose weights are the same
    with pytest.raises(FileNotFoundError, match="expected a gallery built with maxima=True"):
        compare_galleries(gallery, other, tmp_path / "c", match="correlation")
    with pytest.raises(ValueError, match="expected match one of"):
        compare_galleries(gallery, other, tmp_path / "c", match="nearest")
    assert build_gallery(other_network(), photos, out=tmp_path / "other", **OPTIONS).layers == other.layers


def test_galleries_that_share_no_images_or_no_layers(gallery: Gallery, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for n in range(3):
        Image.new("RGB", (20, 20), (90 * n, 9, 200)).save(tmp_path / "photos" / f"other{n}.png")
    strangers = build_gallery(small_network(), tmp_path / "photos", out=tmp_path / "g", **OPTIONS)
    with pytest.raises(ValueError, match="expected galleries that share images"):
        compare_galleries(gallery, strangers, tmp_path / "out")
    pooled = build_gallery(small_network(), photos, out=tmp_path / "p", **{**OPTIONS, "layers": ["2"]})
    with pytest.raises(ValueError, match="expected galleries that share layers"):
        compare_galleries(gallery, pooled, tmp_path / "out")


def test_the_command(photos: Path, galleries: tuple[Gallery, Gallery], tmp_path: Path) -> None:
    command = ["gallery", "--model", "small:small_network", "--data", str(photos), "--layers", "1,4", "--workers", "0",
               "--size", "20", "--top-k", "2", "--maxima", "--json"]  # fmt: skip
    command += ["--compare", str(galleries[1].path), "--match", "correlation", "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout.splitlines()[-1])
    assert Path(found["comparison"]).is_file()
    assert found["pairs"] > 0
    missing = [*command[:-1], str(tmp_path / "new")]
    missing[missing.index("--compare") + 1] = str(tmp_path / "none")
    result = CliRunner().invoke(app, missing)
    assert result.exit_code == 1
    assert "expected path the folder of a gallery" in result.output
    assert not (tmp_path / "new").exists()


def test_the_page(browser: Any, galleries: tuple[Gallery, Gallery], tmp_path: Path) -> None:
    path, pairs = compare_galleries(*galleries, tmp_path / "out", match="correlation")
    page = browser.new_page(viewport={"width": 1300, "height": 850})
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("requestfailed", lambda request: problems.append(request.url))
    page.goto(f"{path.as_uri()}#layer=4")
    page.wait_for_selector(".pair")
    assert page.locator(".pair").count() == sum(pair.layer == "4" for pair in pairs)
    page.wait_for_function("[...document.images].every((image) => image.complete && image.naturalWidth > 0)")
    assert "correlation 1.00" in page.locator(".pair p").first.text_content()
    page.select_option("#sort", "least")
    page.locator("#layers a").first.click()
    page.wait_for_function("document.getElementById('name').textContent === '0'")
    if folder := os.environ.get("ZFKERNELS_SCREENSHOTS"):
        page.screenshot(path=f"{folder}/compare.png")
    page.close()
    assert problems == []

"""A gallery beside the network: its winners lead into their photos."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from exploring import LAYER, SIZE, SMALL, classifier, explorer_of, photos_of, running
from PIL import Image

from zfkernels.data import open_source
from zfkernels.gallery import Gallery, build_gallery
from zfkernels.serve.network import Network
from zfkernels.serve.photos import Photos
from zfkernels.serve.winners import Winners

pytest.importorskip("starlette", reason="the extra serve is not installed")
pytest.importorskip("httpx2", reason="httpx2, which Starlette's test client needs, is not installed")
from starlette.testclient import TestClient

from zfkernels.serve import create_app

HOME = "http://127.0.0.1:8813"


@pytest.fixture(scope="module")
def gallery(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Gallery:
    out = tmp_path_factory.mktemp("winners") / "gallery"
    return build_gallery(
        classifier(), folder, layers=[LAYER], out=out, preprocess=SMALL, workers=0, progress=False, top_k=3
    )


def network() -> Network:
    return Network(classifier(), SMALL, "small")


@pytest.fixture(params=["with the data", "without"])
def client(request: pytest.FixtureRequest, folder: Path, gallery: Gallery) -> Iterator[Any]:
    source = open_source(folder) if request.param == "with the data" else None
    explorer = explorer_of(classifier())
    winners = Winners(gallery, explorer.network, source)
    with TestClient(create_app(explorer, Photos(SMALL, source, winners), winners, port=8813), base_url=HOME) as found:
        yield found


def test_a_winner_leads_into_its_photo(client: Any, gallery: Gallery) -> None:
    channel = gallery.maps(LAYER)[0]
    told = client.get("/api/winners", params={"layer": LAYER, "map": channel}).json()
    rows = gallery.winners(LAYER, channel)
    assert [winner["value"] for winner in told["winners"]] == [row["value"] for row in rows]
    best, row = told["winners"][0], rows[0]
    assert (best["name"], best["row"], best["column"]) == (row["image"], row["row"], row["col"])
    photo = client.get(f"/api/photos/{best['photo']}/answers").json()
    assert photo["name"] == row["image"]
    place = {"layer": LAYER, "map": channel, "row": best["row"], "column": best["column"]}
    facts = client.get(f"/api/photos/{best['photo']}/unit", params=place).json()
    exact = best["photo"].startswith("data-")
    copied = (gallery.image(row["image_id"]).float() / 255 - torch.tensor(SMALL.mean).view(3, 1, 1)) / torch.tensor(
        SMALL.std
    ).view(3, 1, 1)
    maps = classifier()[: int(LAYER) + 1](copied[None])[0].detach()
    expected = row["value"] if exact else float(maps[channel, row["row"], row["col"]])
    assert facts["activation"] == pytest.approx(expected, rel=1e-4)
    assert photo["note"] == ("" if exact else "the gallery's own copy of the photo, compressed: values differ")
    seen = np.asarray(Image.open(BytesIO(client.get(f"/api/photos/{best['photo']}/image.png").content)))
    copy = gallery.image(row["image_id"]).permute(1, 2, 0).numpy()
    assert np.array_equal(seen, copy) or exact


def test_the_strip_has_a_column_for_each_winner(client: Any, gallery: Gallery) -> None:
    channel = gallery.maps(LAYER)[0]
    asked = {"layer": LAYER, "map": channel}
    told, strip = client.get("/api/winners", params=asked).json(), client.get("/api/winners.png", params=asked)
    height, width = told["tile"]
    shown = np.asarray(Image.open(BytesIO(strip.content)))
    assert shown.shape == (height, width * len(told["winners"]), 3)
    patch = gallery.patches(LAYER, channel)[1].permute(1, 2, 0).numpy()
    assert np.array_equal(shown[height // 2 :, width : 2 * width], patch)
    projection = gallery.projections(LAYER, channel)[1].permute(1, 2, 0).numpy()
    assert np.array_equal(shown[: height // 2, width : 2 * width], projection)


def test_what_is_not_in_the_gallery_is_said_to_be_none(client: Any) -> None:
    for layer, channel in (("0", 0), ("none", 0), (LAYER, 99)):
        told = client.get("/api/winners", params={"layer": layer, "map": channel})
        assert told.json() == {"winners": None, "tile": None}
    assert client.get("/api/winners.png", params={"layer": LAYER, "map": 99}).status_code == 400
    for photo in ("gallery-999", "gallery-x", "gallery-", "gallery-../0"):
        assert client.get(f"/api/photos/{photo}/answers").status_code in (400, 404)


def test_a_gallery_of_another_network_is_refused(gallery: Gallery) -> None:
    other = classifier()
    with torch.no_grad():
        other[0].bias[0] += 1
    with pytest.raises(ValueError, match=r"expected gallery one of other, got .* of other weights"):
        Winners(gallery, Network(other, SMALL, "other"))


def test_the_page_opens_a_winner(browser: Any, gallery: Gallery, folder: Path) -> None:
    pytest.importorskip("uvicorn", reason="the extra serve is not installed")
    explorer, source = explorer_of(classifier()), open_source(folder)
    winners = Winners(gallery, explorer.network, source)
    channel = gallery.maps(LAYER)[0]
    best = gallery.winners(LAYER, channel)[0]
    with running(explorer, Photos(SMALL, source, winners), winners=winners) as home:
        page = browser.new_page()
        problems: list[str] = []
        page.on("console", lambda message: problems.append(message.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(f"{home}/#photo=data-1&layer={LAYER}&map={channel}")
        page.wait_for_selector("#layers .starred")
        page.click(".winners button")
        page.wait_for_selector(f".unit dd:text-is('row {best['row']}, column {best['col']}')")
        page.wait_for_timeout(300)
        assert page.locator(".pane h2").text_content() == best["image"]
        assert f"at={best['row']}.{best['col']}" in page.url
        page.close()
        assert problems == []


def test_photos_of_a_gallery_have_the_networks_size(gallery: Gallery, folder: Path) -> None:
    photos = Photos(SMALL, None, Winners(gallery, network()))
    image_id = gallery.winners(LAYER, gallery.maps(LAYER)[0])[0]["image_id"]
    assert photos.get(f"gallery-{image_id}").image.shape == (1, 3, SIZE, SIZE)
    assert photos_of(folder).get("data-1").image.shape == (1, 3, SIZE, SIZE)

"""The page of a gallery and its pictures: whole, and safe with names from data."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
from PIL import Image
from small import OPTIONS, SIZE, small_network

from zfkernels.gallery import Gallery, build_gallery


def test_figure_holds_the_pictures_of_its_maps(gallery: Gallery) -> None:
    some = gallery.maps("4")[:3]
    page = gallery.figure({"4": some}, columns=2)
    picture = Image.new("RGBA", gallery.picture("4", some[0]).size, "white")
    picture.alpha_composite(gallery.picture("4", some[0]))
    assert page.width >= 2 * picture.width
    assert page.height >= 2 * picture.height
    wanted, there = np.asarray(picture.convert("RGB")), np.asarray(page)
    tile = wanted.shape[0]
    assert any(
        np.array_equal(there[y : y + tile, x : x + tile], wanted[:, :tile]) for y in range(60) for x in range(40)
    )
    assert gallery.figure(2).height > page.height  # every layer


class Tags(HTMLParser):
    """Collects the start tags of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_names_from_data_and_model_are_escaped(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script><!--\u2028"
    folder = tmp_path / "photos"
    (folder / "</script><img src=x onerror=alert(2)>").mkdir(parents=True)
    for n, name in enumerate(('a"onload="alert(3)', "b'<b>&amp;", "c</title>")):
        Image.new("RGB", (SIZE, SIZE), (n * 90, 200 - n * 70, 30)).save(
            folder / "</script><img src=x onerror=alert(2)>" / f"{name.replace('/', '')}.png"
        )
    (folder / f"{evil.replace('/', '')}.png").write_bytes(next(folder.rglob("a*.png")).read_bytes())
    gallery = build_gallery(small_network(), folder, out=tmp_path / "out", title=evil, **OPTIONS)
    text = (gallery.path / "index.html").read_text()
    tags = Tags()
    tags.feed(text)
    assert [attributes.get("type") for tag, attributes in tags.found if tag == "script"] == ["application/json", None]
    assert not any(name.startswith("on") for _, attributes in tags.found for name in attributes)
    assert all(attributes["src"].startswith("maps/") for tag, attributes in tags.found if tag == "img")
    data = text.split('<script type="application/json" id="data">')[1].split("</script>")[0]
    images = json.loads(data)["images"]
    assert {key for key, _ in images} == {row["image"] for row in gallery.table.to_pylist()}
    assert any("<script>" in key for key, _ in images)


def test_page_is_whole_and_every_picture_exists(gallery: Gallery) -> None:
    tags = Tags()
    tags.feed((gallery.path / "index.html").read_text())
    sources = [attributes["src"] for tag, attributes in tags.found if tag == "img"]
    assert len(sources) == len(set(sources)) == len(list((gallery.path / "maps").rglob("*.webp")))
    for tag, attributes in tags.found:
        if tag == "img":
            with Image.open(gallery.path / str(attributes["src"])) as picture:
                assert (str(picture.width), str(picture.height)) == (attributes["width"], attributes["height"])
            assert attributes["loading"] == "lazy"
            assert attributes["alt"]
        for name in ("src", "href"):
            assert not str(attributes.get(name, "")).startswith(("http", "//", "/"))

"""The page of a gallery and its pictures: whole, and safe with names from data."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from small import OPTIONS, SIZE, small_network
from torch import nn

from zfkernels.gallery import Gallery, build_gallery
from zfkernels.gallery.page import script_path, sprite_path
from zfkernels.viz.tiles import resize_tiles, stretch_projections


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
        np.array_equal(there[y : y + tile, x : x + tile], wanted[:, :tile])
        for y in range(there.shape[0] - tile)
        for x in range(40)
    )
    assert gallery.figure(2).height > page.height  # every layer


def test_the_first_maps_are_the_most_selective(gallery: Gallery, tmp_path: Path) -> None:
    rows = {row["channel"]: row["selectivity"] or 0.0 for row in gallery.statistics.to_pylist() if row["layer"] == "4"}
    drawn = gallery.maps("4")
    full = [n for n in drawn if len(gallery.winners("4", n)) == gallery.info["top_k"]]
    first = gallery.first_maps("4", 99)
    assert sorted(first) == drawn
    assert first != drawn  # another order than by number
    assert set(first[: len(full)]) == set(full)
    assert [round(rows[n], 3) for n in first[: len(full)]] == sorted((round(rows[n], 3) for n in full), reverse=True)
    assert gallery.first_maps("4", 2) == first[:2]
    for count, error in ((0, ValueError), (-1, ValueError), (True, TypeError), (2.0, TypeError)):
        with pytest.raises(error, match="first_maps: expected count"):
            gallery.first_maps("4", count)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected layer one of"):
        gallery.first_maps("5", 1)
    # Without labels the strongest come first.
    photos = [(torch.rand(3, SIZE, SIZE, generator=torch.Generator().manual_seed(n)), None) for n in range(6)]
    plain = build_gallery(small_network(), photos, out=tmp_path / "plain", **{**OPTIONS, "preprocess": None})
    strength = [plain.winners("4", n)[0]["value"] for n in plain.first_maps("4", 99)]
    assert strength == sorted(strength, reverse=True)
    assert plain.figure(2).tobytes() != plain.figure({"4": plain.maps("4")[:2]}).tobytes()


def test_the_filters_of_a_first_layer(gallery: Gallery) -> None:
    weight = small_network()[0].weight.detach()
    for layer in ("0", "1"):
        maps, filters = gallery.filters(layer)
        assert maps == [n for n in gallery.maps(layer) if gallery.winners(layer, n)[0]["value"] > 0] != []
        shown = resize_tiles(weight[maps], (filters.shape[2], filters.shape[3]))
        distance = (filters.float() - stretch_projections(shown).float()).abs().mean((1, 2, 3))
        assert distance.max() < 4  # WebP loses a little
    with pytest.raises(ValueError, match="expected layer a convolution of the image or its rectifier, got '4'"):
        gallery.filters("4")
    assert [layer["filters"] for layer in gallery.info["layers"]] == [True, True, False]
    # The figure of a number of maps has a sheet of them in place of maps.
    titles = [axes.get_title(loc="left") for axes in gallery.plot(1).axes]
    assert titles[0].replace("\n", " ") == "0, the filter of each map, by number, row by row; 1 without one"
    assert gallery.figure(1).height > 0


def test_first_layers_whose_projections_are_no_filters(photos: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    convolution = small_network()[0]
    model = nn.Sequential(nn.ReLU(), convolution, nn.BatchNorm2d(5), nn.ReLU(), nn.BatchNorm2d(5)).eval()
    options = {**OPTIONS, "layers": ("1", "2", "3", "4")}
    gallery = build_gallery(model, photos, out=tmp_path / "rectified", **options)
    assert [layer["filters"] for layer in gallery.info["layers"]] == [False] * 4  # of a rectified image
    gallery = build_gallery(
        nn.Sequential(*model[1:]), photos, out=tmp_path / "plain", **{**options, "layers": ("0", "1", "2", "3")}
    )
    assert [layer["filters"] for layer in gallery.info["layers"]] == [True, True, True, False]
    patches = build_gallery(small_network(), photos, out=tmp_path / "patches", **OPTIONS, projections=False)
    with pytest.raises(ValueError, match="filters: expected a gallery with projections"):
        patches.filters("1")
    assert patches.figure(1).height > 0


class Tags(HTMLParser):
    """Collects the start tags of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_a_gallery_shows_itself(gallery: Gallery) -> None:
    some = gallery.maps("4")[:2]
    figure = gallery.plot({"4": some}, columns=1)
    values = [[row["value"] for row in gallery.winners("4", channel)] for channel in some]
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        f"4, map {channel}\n{max(found):.3g} to {min(found):.3g}" for channel, found in zip(some, values, strict=True)
    ]
    for axes, channel in zip(figure.axes, some, strict=True):
        assert np.array_equal(axes.images[0].get_array(), np.asarray(gallery.picture("4", channel)))
    assert len(gallery.plot(1).axes) == 3 * len(gallery.layers)  # a row of three places for each layer
    with pytest.raises(ValueError, match=r"expected maps of .* that fired, got none"):
        gallery.plot({"4": []})
    assert repr(gallery) == f"<Gallery: {gallery.headline()}, in {gallery.path}>"
    assert gallery.headline().startswith("16 maps of 3 layers of Sequential, ")
    assert gallery.overview()[1] == {"layer": "1", "maps": 5, "dead": 1}
    assert gallery._repr_html_().count("<tr>") == 1 + len(gallery.layers)


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
    assert not any(tag == "img" for tag, _ in tags.found)
    assert "</script" not in text.split('id="data">')[1].split("</script>")[0]
    images = layer_data(gallery, 2)["images"]
    assert {key for _, key, _ in images} <= {row["image"] for row in gallery.table.to_pylist()}
    assert any("<script>" in key for _, key, _ in images)
    assert not any("<" in (gallery.path / script_path(n)).read_text() for n in range(3))


def layer_data(gallery: Gallery, index: int) -> dict[str, Any]:
    text = (gallery.path / script_path(index)).read_text()
    return json.loads(text.removeprefix(f"showLayer({index}, ").removesuffix(");\n"))


def test_page_says_what_the_table_says(gallery: Gallery) -> None:
    rows = [row for row in gallery.table.to_pylist() if row["layer"] == "4" and row["value"] > 0]
    data, found = layer_data(gallery, 2), []
    statistics = [row for row in gallery.statistics.to_pylist() if row["layer"] == "4"]
    for channel, fired, purity, units, (bars, label, selectivity) in data["maps"]:
        assert 0 < fired <= 1
        row = statistics[channel]
        assert sum(bars) == pytest.approx(100 * row["fired"], abs=0.5)
        assert [label, selectivity] == [
            (row["labels"] or [None])[0],
            row["selectivity"] and round(row["selectivity"], 3),
        ]
        labels = [data["images"][unit[0]][2] for unit in units]
        assert purity == round(max(labels.count(label) for label in labels) / len(labels), 3)
        for rank, (image, value, *place) in enumerate(units):
            path, key, label = data["images"][image]
            assert (gallery.path / path).is_file()
            found.append((channel, rank, value, key, label, *place))
    names = ("image", "label", "row", "col", "top", "left", "bottom", "right")
    assert found == [
        (row["channel"], row["rank"], f"{row['value']:.4g}", *(row[name] for name in names)) for row in rows
    ]


def test_every_picture_of_the_page_exists(gallery: Gallery) -> None:
    text = (gallery.path / "index.html").read_text()
    data = json.loads(text.split('<script type="application/json" id="data">')[1].split("</script>")[0])
    assert [layer["name"] for layer in data["layers"]] == gallery.layers
    for index, layer in enumerate(data["layers"]):
        shown = [channel for channel, *_ in layer_data(gallery, index)["maps"]]
        assert shown == gallery.maps(layer["name"])
        for channel in shown:
            with Image.open(gallery.path / sprite_path(index, channel)) as sprite:
                assert list(sprite.size) == layer["sprite"]
    tags = Tags()
    tags.feed(text)
    for _, attributes in tags.found:
        for name in ("src", "href"):
            assert not str(attributes.get(name, "")).startswith(("http", "//", "/"))


def test_tiles_as_tensors(gallery: Gallery) -> None:
    channel = gallery.maps("4")[0]
    rows = gallery.winners("4", channel)
    for tiles in (gallery.projections("4", channel), gallery.patches("4", channel), gallery.activations("4", channel)):
        assert tiles.dtype == torch.uint8
        assert tiles.shape == (len(rows), 3, *gallery.info["layers"][2]["tile"])
    # The brightest place of the heat is the activation's.
    heat, (height, width) = gallery.activations("4", channel)[0].float().sum(0), gallery.info["layers"][2]["size"]
    cells = torch.nn.functional.adaptive_avg_pool2d(heat[None, None], (height, width))[0, 0]
    assert divmod(int(cells.argmax()), width) == (rows[0]["row"], rows[0]["col"])
    assert gallery.image(rows[0]["image_id"]).shape == (3, SIZE, SIZE)
    with pytest.raises(ValueError, match="image_id of a winning image, got 999"):
        gallery.image(999)


@pytest.mark.parametrize("suffix", [".png", ".pdf", ".svg"])
def test_export_of_one_map(gallery: Gallery, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"map{suffix}"
    gallery.export("4", gallery.maps("4")[0], path)
    assert path.read_bytes().startswith({".png": b"\x89PNG", ".pdf": b"%PDF", ".svg": b"<?xml"}[suffix])
    with pytest.raises(ValueError, match=r"expected path of a \.png, \.pdf or \.svg file"):
        gallery.export("4", gallery.maps("4")[0], tmp_path / "map.gif")


def test_images_for_tensorboard(gallery: Gallery, tmp_path: Path) -> None:
    gallery.to_tensorboard(tmp_path, maps=2)
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(tmp_path)).Reload()
    assert set(gallery.layers) < set(events.Tags()["images"])
    assert len(events.Tags()["images"]) == 3 * len(gallery.layers)


@pytest.mark.parametrize("tool", ["pandas", "polars", "duckdb"])
def test_other_tools_read_the_table(gallery: Gallery, tool: str) -> None:
    path = str(gallery.path / "topk.parquet")
    module = pytest.importorskip(tool)
    if tool == "duckdb":
        rows = module.sql(f"select layer, max(value) from '{path}' group by layer order by layer").fetchall()
    elif tool == "polars":
        rows = sorted(module.read_parquet(path).group_by("layer").agg(module.max("value")).rows())
    else:
        rows = list(module.read_parquet(path).groupby("layer")["value"].max().items())
    table = gallery.table.to_pylist()
    assert rows == [(layer, max(row["value"] for row in table if row["layer"] == layer)) for layer in gallery.layers]

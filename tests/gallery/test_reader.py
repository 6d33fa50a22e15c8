"""A gallery of anybody's is opened: no decoder but that for WebP runs, what is damaged or hostile is one sentence."""

from __future__ import annotations

import json
import shutil
from io import BytesIO
from pathlib import Path

import pytest
import torch
from PIL import EpsImagePlugin, Image
from small import OPTIONS, SIZE
from torch import Tensor, nn

from zfkernels.gallery import Gallery, build_gallery
from zfkernels.gallery.page import image_path, sprite_path

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 20\n%%EndComments\nshowpage\n"


@pytest.fixture
def copy(gallery: Gallery, tmp_path: Path) -> Path:
    shutil.copytree(gallery.path, tmp_path / "copy")
    return tmp_path / "copy"


def webp(width: int, height: int) -> bytes:
    file = BytesIO()
    Image.new("RGB", (width, height)).save(file, "WEBP")
    return file.getvalue()


def png(width: int, height: int) -> bytes:
    file = BytesIO()
    Image.new("RGB", (width, height)).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("data", [EPS, png(SIZE, SIZE), b"", webp(2000, 2000), webp(SIZE, SIZE)[:40]])
def test_a_picture_that_is_another_file_is_refused(copy: Path, monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    def start(*_: object, **__: object) -> None:
        pytest.fail("Pillow started Ghostscript")

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", start)
    gallery = Gallery.open(copy)
    channel = gallery.maps("0")[0]
    image_id = gallery.winners("0", channel)[0]["image_id"]
    (copy / sprite_path(0, channel)).write_bytes(data)
    (copy / image_path(image_id)).write_bytes(data)
    for ask in (lambda: gallery.picture("0", channel), lambda: gallery.patches("0", channel),
                lambda: gallery.image(image_id), lambda: gallery.export("0", channel, copy / "x.png")):  # fmt: skip
        with pytest.raises(ValueError, match=r"Gallery: expected .*\.webp a (WebP|whole) picture") as caught:
            ask()
        assert "\n" not in str(caught.value)
    assert not (copy / "x.png").exists()


@pytest.mark.parametrize("image_id", [-1, 999, 10**30])
def test_an_image_id_out_of_range(gallery: Gallery, image_id: int) -> None:
    with pytest.raises(ValueError, match="image_id of a winning image, got"):
        gallery.image(image_id)


def test_an_image_id_that_is_no_number(gallery: Gallery) -> None:
    with pytest.raises(TypeError, match="expected image_id an int, got str"):
        gallery.image("../../secret")  # type: ignore[arg-type]


@pytest.mark.parametrize("channel", [-1, 5, 10**30])
def test_a_channel_out_of_range(gallery: Gallery, channel: int) -> None:
    with pytest.raises(ValueError, match="expected channel one of the maps of 0 that fired, got"):
        gallery.picture("0", channel)


def change(info: dict, path: str, value: object) -> dict:
    *parents, last = path.split(".")
    part = info
    for name in parents:
        part = part[int(name) if isinstance(part, list) else name]
    part[last] = value
    return info


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("layers", None), ("layers", []), ("layers", [1]), ("top_k", "4"), ("top_k", 0), ("top_k", 10**12),
        ("top_k", True), ("blocks", ["projections", "secrets"]), ("blocks", []), ("image_size", [10**9, 10**9]),
        ("image_size", 20), ("layers.0.tile", [10**6, 60]), ("layers.0.tile", [60]), ("layers.0.maps", -1),
        ("layers.0.dead", [99]), ("layers.0.dead", "all"), ("layers.0.name", 7), ("layers.1.name", "0"),
        ("layers.0.rectified", 1), ("table_sha256", None),
    ],
)  # fmt: skip
def test_a_record_of_another_form_is_refused(copy: Path, path: str, value: object) -> None:
    record = copy / "gallery.json"
    record.write_text(json.dumps(change(json.loads(record.read_text()), path, value)))
    with pytest.raises(ValueError, match=r"Gallery\.open: expected .*gallery\.json the record of a gallery, got"):
        Gallery.open(copy)


@pytest.mark.parametrize("text", ["", "null", "[]", "7", '"x"', "{", "[" * 100_000, "\0"])
def test_a_record_that_is_none_is_refused(copy: Path, text: str) -> None:
    (copy / "gallery.json").write_text(text)
    with pytest.raises(ValueError, match="the record of a gallery, got") as caught:
        Gallery.open(copy)
    assert "\n" not in str(caught.value)


def test_a_table_that_was_changed_is_refused(copy: Path) -> None:
    data = (copy / "topk.parquet").read_bytes()
    for place in range(0, len(data), 97):
        (copy / "topk.parquet").write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        with pytest.raises(ValueError, match=r"topk\.parquet the table that belongs to gallery\.json"):
            _ = Gallery.open(copy).table
    (copy / "topk.parquet").unlink()
    with pytest.raises(FileNotFoundError, match="expected the table of a gallery, got none at"):
        _ = Gallery.open(copy).table


class OnlyNan(nn.Module):
    """One map that is NaN on every image, and one that is not."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.cat([images[:, :1], images[:, :1] * torch.nan], 1)


def test_maps_that_are_nan_on_every_image_are_said(photos: Path, tmp_path: Path) -> None:
    gallery = build_gallery(OnlyNan().eval(), photos, out=tmp_path, **{**OPTIONS, "layers": "cat"}, projections=False)
    (layer,) = gallery.info["layers"]
    assert layer["only_nan"] == [1]
    assert gallery.maps("cat") == [0]
    assert '"onlyNan":[1]' in (tmp_path / "index.html").read_text()


def test_more_tiles_than_a_picture_holds_are_refused_before_the_first_pass(tmp_path: Path) -> None:
    class Many:
        """Images without end."""

        def __iter__(self):
            while True:
                yield torch.rand(3, SIZE, SIZE)

    from small import small_network

    with pytest.raises(ValueError, match=r"expected top_k from 1 to \d+, the tiles of a map of 0 .*, got 10000000"):
        build_gallery(small_network(), Many(), out=tmp_path / "out", **{**OPTIONS, "top_k": 10_000_000})
    assert list(tmp_path.iterdir()) == []


def test_no_memory_is_taken_for_more_activations_than_images(photos: Path, tmp_path: Path) -> None:
    from small import small_network

    gallery = build_gallery(small_network(), photos, out=tmp_path, **{**OPTIONS, "top_k": 10_000_000})
    channel = gallery.maps("4")[0]
    assert gallery.info["top_k"] == 14  # images, one of which cannot be read
    assert len(gallery.winners("4", channel)) == len(gallery.patches("4", channel)) <= 13
    with Image.open(tmp_path / sprite_path(2, channel)) as sprite:
        assert sprite.size[1] >= 4 * gallery.info["layers"][2]["tile"][0]  # four rows of up to four


def test_an_export_to_a_full_disk_leaves_what_was_there(
    gallery: Gallery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from matplotlib.figure import Figure

    def fill(self: Figure, path: Path, **_: object) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    path = tmp_path / "map.png"
    gallery.export("4", gallery.maps("4")[0], path)
    whole = path.read_bytes()
    monkeypatch.setattr(Figure, "savefig", fill)
    with pytest.raises(OSError, match="No space"):
        gallery.export("4", gallery.maps("4")[0], path)
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("map.png", whole)]


@pytest.mark.parametrize("name", ["map.png", "map.pdf", "map.svg"])
def test_an_export_replaces_an_export_and_nothing_else(gallery: Gallery, tmp_path: Path, name: str) -> None:
    path, channel = tmp_path / name, gallery.maps("4")[0]
    gallery.export("4", channel, path)
    gallery.export("4", channel, path)
    path.write_bytes(png(9, 9))
    with pytest.raises(ValueError, match=r"Gallery\.export: expected a new file to write, or one that zfkernels wrote"):
        gallery.export("4", channel, path)
    assert path.read_bytes() == png(9, 9)

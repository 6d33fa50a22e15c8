"""Sources of images: the same ids everywhere, and nothing that a file can hold stops a run."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.pictures import KEYS, archived, encoded, make_folder, picture
from torch.utils.data import TensorDataset

from zfkernels.data import DatasetSource, ImageFiles, UnreadableImageError, embedded_photos, open_source, stream
from zfkernels.data.photos import PHOTOS
from zfkernels.models import Preprocess

SMALL = Preprocess(size=8, resize=8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "photos")


@pytest.mark.parametrize("kind", ["folder", "zip", "tar", "tar.gz", "tar.bz2", "tar.xz"])
@pytest.mark.parametrize("workers", [0, 2])
def test_ids_labels_and_pixels_do_not_depend_on_the_container(folder: Path, kind: str, workers: int) -> None:
    source = open_source(folder if kind == "folder" else archived(folder, kind))
    assert source.keys == KEYS
    assert source.ignored == [("notes.txt", "not an image by its suffix")]
    seen = {}
    for batch in stream(source, SMALL, batch_size=2, workers=workers):
        assert batch.skipped == []
        for image, image_id, label in zip(batch.images, batch.ids.tolist(), batch.labels, strict=True):
            seen[image_id] = image, label
    assert [seen[n][1] for n in range(5)] == ["a", "a", "b", "d", None]
    for image_id, key in enumerate(KEYS):
        assert torch.equal(seen[image_id][0], SMALL(Image.open(folder / key)))


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_archives_are_read_in_the_order_of_their_members(folder: Path, kind: str) -> None:
    source = open_source(archived(folder, kind))
    assert [source.keys[n] for n in source.order] == sorted(KEYS, reverse=True)
    copy = pickle.loads(pickle.dumps(source))  # as a worker process gets it, after a handle was opened here
    assert copy.load(3)[0].tobytes() == source.load(3)[0].tobytes()


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_forked_worker_does_not_move_the_handle_of_its_parent(folder: Path, kind: str) -> None:
    source = open_source(archived(folder, kind))
    source.load(0)
    handle = source._store._handle()
    file = (handle.fp if kind == "zip" else handle).fileno()
    before = os.lseek(file, 0, os.SEEK_CUR)
    worker = multiprocessing.get_context("fork").Process(target=source.load, args=(4,))
    worker.start()
    worker.join()
    assert worker.exitcode == 0
    assert os.lseek(file, 0, os.SEEK_CUR) == before


def test_one_image_file_is_a_source(folder: Path) -> None:
    assert open_source(folder / "top.png").keys == ["top.png"]


def test_some_ids_only_in_the_given_order(folder: Path) -> None:
    batches = list(stream(open_source(folder), SMALL, ids=[4, 0, 2], batch_size=2, workers=0))
    assert [batch.ids.tolist() for batch in batches] == [[4, 0], [2]]


def test_a_limit_keeps_ids_and_order(folder: Path) -> None:
    source = open_source(archived(folder, "zip"))
    source.limit(3)
    assert len(source) == 3
    assert list(source.order) == [3, 1, 0]
    source = open_source(folder)
    source.limit(100)
    assert len(source) == 5
    with pytest.raises(ValueError, match="expected count ≥ 1, got 0"):
        source.limit(0)


BROKEN = {
    "truncated.jpg": encoded(picture(300, 300), "JPEG")[:2000],
    "truncated.png": encoded(picture(300, 300))[:3000],
    "text.jpg": b"this is no picture",
    "zero.png": b"",
    "page.html.png": b"<html><script>alert(1)</script></html>",
    "float.tiff": encoded(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF"),
    "eps.jpg": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    "long.png": encoded(Image.new("L", (1, 30000))),
}


@pytest.mark.parametrize("name", BROKEN)
def test_unusable_files_are_skipped_with_a_reason(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(BROKEN[name])
    (tmp_path / "whole.png").write_bytes(encoded(picture()))
    preprocess = Preprocess(size=64, resize=64)
    (batch,) = stream(open_source(tmp_path), preprocess, workers=0)
    bad, good = sorted([name, "whole.png"]).index(name), sorted([name, "whole.png"]).index("whole.png")
    assert batch.ids.tolist() == [good]
    ((skipped, reason),) = batch.skipped
    assert skipped == bad
    assert reason
    assert "\n" not in reason


def test_what_is_no_file_is_listed_and_not_waited_for(folder: Path) -> None:
    os.mkfifo(folder / "pipe.png")
    (folder / "link.png").symlink_to("nowhere")
    source = open_source(folder)
    assert source.keys == KEYS
    assert source.ignored == [
        ("link.png", "a link to nothing"),
        ("notes.txt", "not an image by its suffix"),
        ("pipe.png", "not a regular file"),
    ]
    (folder / "a/1.png").unlink()  # after it was listed
    os.mkfifo(folder / "a/1.png")
    (batch,) = stream(source, SMALL, workers=0)
    assert batch.skipped == [(0, "not a regular file")]


def test_a_batch_without_usable_images(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"x")
    (batch,) = stream(open_source(tmp_path), SMALL, workers=0)
    assert len(batch.images) == len(batch.ids) == 0
    assert batch.skipped == [(0, "not an image file")]


def test_decompression_bomb_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    (tmp_path / "bomb.png").write_bytes(encoded(Image.new("1", (20000, 5000))))
    with pytest.raises(UnreadableImageError, match="decompression bomb"):
        open_source(tmp_path).load(0)


def test_damaged_bytes_never_raise_anything_else(tmp_path: Path) -> None:
    generator = random.Random(0)
    whole = [encoded(picture(40, 30), kind) for kind in ("PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP", "PPM")]
    path = tmp_path / "x.png"
    path.touch()
    source = open_source(tmp_path)
    refused = 0
    for n in range(700):
        data = bytearray(whole[n % len(whole)])
        for _ in range(generator.randint(1, 8)):
            data[generator.randrange(len(data))] = generator.randrange(256)
        path.write_bytes(bytes(data[: generator.randint(1, len(data))] if generator.random() < 0.3 else data))
        try:
            source.load(0)
        except UnreadableImageError:
            refused += 1
    assert refused > 100


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGBA", "CMYK", "LA", "YCbCr"])
def test_all_modes_become_rgb(tmp_path: Path, mode: str) -> None:
    kind = "TIFF" if mode in ("CMYK", "YCbCr") else "PNG"
    (tmp_path / f"x.{kind.lower()}").write_bytes(encoded(picture(mode=mode), kind))
    image, _ = open_source(tmp_path).load(0)
    assert image.mode == "RGB"
    assert image.size == (12, 10)


def test_16_bit_grey_is_scaled_not_clipped(tmp_path: Path) -> None:
    ramp = (np.arange(256, dtype=np.uint16) << 8)[None].repeat(2, 0)
    (tmp_path / "x.png").write_bytes(encoded(Image.fromarray(ramp)))
    image, _ = open_source(tmp_path).load(0)
    assert np.array_equal(np.asarray(image)[0, :, 0], np.arange(256))


def test_an_animation_gives_its_first_frame(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    (tmp_path / "x.gif").write_bytes(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    image, _ = open_source(tmp_path).load(0)
    assert image.getpixel((0, 0)) == (255, 0, 0)


def test_file_names_that_are_no_text(tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/\xff\xfe.png"
    with open(name, "wb") as file:
        file.write(encoded(picture()))
    source = open_source(tmp_path)
    assert source.keys == ["\\xff\\xfe.png"]
    assert source.load(0)[0].size == (12, 10)


def test_damaged_members_are_skipped(folder: Path) -> None:
    path = archived(folder, "zip")
    data = bytearray(path.read_bytes())
    start = data.index(b"IDAT")
    data[start + 8 : start + 40] = b"\0" * 32
    path.write_bytes(bytes(data))
    batches = list(stream(open_source(path), SMALL, workers=0))
    assert sum(len(batch.ids) for batch in batches) == 4
    assert "CRC" in batches[0].skipped[0][1]


def test_an_archive_that_breaks_off_gives_what_it_holds(folder: Path) -> None:
    path = archived(folder, "tar")
    path.write_bytes(path.read_bytes()[:2500])
    source = open_source(path)
    assert 1 <= len(source) < 5


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda p: p / "nowhere",
            FileNotFoundError,
            "expected data an existing folder, archive or image, got .*nowhere",
        ),
        (lambda p: p, ValueError, "expected data with at least one image file, got"),
        (lambda p: _write(p / "x.zip", b"PK rubbish"), ValueError, "expected data an archive that can be read"),
        (
            lambda p: _write(p / "x.tar.gz", b"\x1f\x8b rubbish"),
            ValueError,
            "expected data an archive that can be read",
        ),
        (lambda p: _write(p / "x.txt", b"text"), ValueError, "expected data with at least one image file"),
        (lambda p: 5, TypeError, "expected data a path or a map-style data set, got int"),
        (lambda p: [], ValueError, "got an empty data set"),
        (lambda p: ["no picture"], TypeError, "items are pictures or tensors, got str"),
        (
            lambda p: TensorDataset(torch.rand(3, 8, 8)),
            ValueError,
            r"float tensors of shape \(C, H, W\), got .*\(8, 8\)",
        ),
        (lambda p: TensorDataset(torch.ones(3, 3, 8, 8).int()), ValueError, "got torch.int32"),
    ],
)
def test_bad_sources(tmp_path: Path, make, error, message) -> None:
    with pytest.raises(error, match=message):
        open_source(make(tmp_path))


def _write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


class Pictures:
    """A map-style data set whose third item cannot be read."""

    classes = ("cat", "dog")

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        if index == 2:
            raise OSError("broken pipe")
        return picture(seed=index, mode="L"), index % 2


def test_a_data_set_of_pictures() -> None:
    (batch,) = stream(open_source(Pictures()), SMALL, workers=0)
    assert batch.ids.tolist() == [0, 1, 3]
    assert batch.labels == ["cat", "dog", "dog"]
    assert batch.skipped == [(2, "broken pipe")]


def test_a_data_set_of_tensors_is_taken_as_it_is() -> None:
    images = torch.rand(5, 3, 6, 7)
    (batch,) = stream(DatasetSource(TensorDataset(images, torch.arange(5))), SMALL, workers=0)
    assert torch.equal(batch.images, images)
    assert batch.labels == ["0", "1", "2", "3", "4"]


def test_a_tensor_of_another_shape_is_skipped() -> None:
    (batch,) = stream(open_source([torch.rand(3, 4, 4), torch.rand(1, 4, 4), torch.rand(3, 4, 4)]), SMALL, workers=0)
    assert batch.ids.tolist() == [0, 2]
    assert batch.skipped == [(1, "shape (1, 4, 4) instead of (3, 4, 4)")]


@pytest.mark.parametrize("options", [{"batch_size": 0}, {"workers": -1}])
def test_stream_refuses_what_makes_no_sense(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="stream: expected"):
        next(iter(stream(open_source([picture()]), SMALL, **options)))


def test_embedded_photos_are_the_same_everywhere() -> None:
    source = embedded_photos()
    assert 2000 <= len(source) <= 8000
    assert len(set(source.keys)) == len(source)
    assert {key.split("/")[0] for key in source.keys} == {name.split(".")[0] for name in PHOTOS}
    from skimage import data

    image, label = source.load(source.keys.index("chelsea"))
    assert source.picture("chelsea") == image
    with pytest.raises(ValueError, match=r"picture: expected key one of astronaut, .*, or of a crop, got 'dog'"):
        source.picture("dog")
    assert label == "chelsea"
    assert np.array_equal(np.asarray(image), data.chelsea())
    for key in ("astronaut/64/0-0", "astronaut/64/448-448", "astronaut/128/96-192"):
        side, corner = key.split("/")[1:]
        top, left, side = *map(int, corner.split("-")), int(side)
        image, _ = source.load(source.keys.index(key))
        assert np.array_equal(np.asarray(image), data.astronaut()[top : top + side, left : left + side])


def test_preprocess_is_torchvisions_evaluation_transform() -> None:
    from torchvision.transforms._presets import ImageClassification

    image = picture(301, 277)
    expected = ImageClassification(crop_size=48, resize_size=64)(image)
    torch.testing.assert_close(Preprocess(size=48, resize=64)(image), expected)


def test_to_pixels_inverts_the_normalisation() -> None:
    image = picture(16, 16)
    pixels = Preprocess(size=16, resize=16)
    assert np.array_equal(pixels.to_pixels(pixels(image)).permute(1, 2, 0).numpy(), np.asarray(image))


@pytest.mark.parametrize("options", [{"size": 9, "resize": 8}, {"size": 0}, {"std": (1.0, 0.0, 1.0)}])
def test_preprocess_refuses_what_makes_no_sense(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="Preprocess: expected"):
        Preprocess(**options)  # type: ignore[arg-type]


def test_ids_of_real_photos_in_an_archive(shared_data: Path) -> None:
    source = ImageFiles(shared_data / "caltech-101.zip")
    assert len(source) == 9144
    batch = next(iter(stream(source, Preprocess(), ids=range(100, 104), workers=0)))
    assert batch.labels == ["BACKGROUND_Google"] * 4
    assert batch.images.shape == (4, 3, 224, 224)

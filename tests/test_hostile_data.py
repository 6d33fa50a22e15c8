"""Data that raises or starts programs: one image is left out, or the source is refused in a sentence."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
import torch
from PIL import EpsImagePlugin, Image
from support.pictures import encoded, picture
from torchvision.datasets import ImageFolder

from zfkernels.cli.options import open_data
from zfkernels.data import UnreadableImageError, load_batch, open_picture, open_source, patience, stream
from zfkernels.models import Preprocess

pytestmark = pytest.mark.usefixtures("no_hang")

SMALL = Preprocess(size=8, resize=8)


class Own(Exception):
    """An exception of the user's."""


class Raises:
    """A map-style data set of ten images of which some raise."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors = errors

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> Image.Image:
        if 3 <= index < 3 + len(self.errors):
            raise self.errors[index - 3]
        return picture(seed=index)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_item_that_raises_anything_is_left_out(workers: int) -> None:
    source = open_source(Raises(StopIteration(), Own("broken\x1b[2J"), AssertionError(), KeyError("x")))
    batches = list(stream(source, SMALL, batch_size=4, workers=workers))
    assert [n for batch in batches for n in batch.ids.tolist()] == [0, 1, 2, 7, 8, 9]
    assert [pair for batch in batches for pair in batch.skipped] == [
        (3, "StopIteration"), (4, r"Own: broken\x1b[2J"), (5, "AssertionError"), (6, "KeyError: 'x'"),
    ]  # fmt: skip
    assert sum(len(batch.ids) + len(batch.skipped) for batch in batches) == source.count == 10
    with pytest.raises(UnreadableImageError, match=r"^StopIteration$"):
        source.load(3)


def test_a_first_item_that_raises() -> None:
    class First(Raises):
        def __getitem__(self, index: int) -> Image.Image:
            return super().__getitem__(index + 3)

    (batch,) = stream(open_source(First(StopIteration(), Own("x"))), SMALL, workers=0)
    assert [n for n, _ in batch.skipped] == [0, 1]
    with pytest.raises(ValueError, match="images that can be read, got none in the first 10: StopIteration"):
        open_source(First(*[StopIteration()] * 10))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_preprocess_that_raises_leaves_the_image_out(workers: int) -> None:
    def preprocess(image: Image.Image) -> torch.Tensor:
        if image.width == 5:
            raise StopIteration
        return SMALL(image)

    source = open_source([picture(), picture(5), picture()])
    (batch,) = stream(source, preprocess, workers=workers)
    assert batch.skipped == [(1, "StopIteration")]
    assert load_batch(source, preprocess, 0, [0, 1, 2]).skipped == batch.skipped


class Truncated(Image.Image):
    def convert(self, *args: object, **options: object) -> Image.Image:
        raise StopIteration


@pytest.mark.parametrize("items", [[picture(), Truncated()], [Truncated(), picture()]])
def test_a_picture_that_is_decoded_only_when_it_is_used(items: list[Image.Image]) -> None:
    class Walk(torch.utils.data.IterableDataset):
        def __iter__(self) -> Iterator[Image.Image]:
            return iter(items)

    for data in (items, Walk()):
        (batch,) = stream(open_source(data), SMALL, workers=0)
        assert batch.skipped == [(items.index(next(i for i in items if isinstance(i, Truncated))), "StopIteration")]


class Walk(torch.utils.data.IterableDataset):
    """Gives ``gives`` images and has a length of ``says``."""

    def __init__(self, gives: int, says: int) -> None:
        self.gives, self.says = gives, says

    def __iter__(self) -> Iterator[Image.Image]:
        return (picture(seed=n) for n in range(self.gives))

    def __len__(self) -> int:
        return self.says


@pytest.mark.parametrize("workers", [0, 1])
def test_a_walk_that_does_not_give_what_its_length_says(workers: int) -> None:
    source = open_source(Walk(5, 5))
    assert source.count == 5
    assert sum(len(batch.ids) for batch in stream(source, SMALL, batch_size=2, workers=workers)) == source.walked == 5
    with pytest.raises(RuntimeError, match="Walk gave 3 images, its length says 5"):
        list(stream(open_source(Walk(3, 5)), SMALL, batch_size=2, workers=workers))
    with pytest.raises(RuntimeError, match="Walk gives more images than the 5 of its length"):
        list(stream(open_source(Walk(7, 5)), SMALL, batch_size=2, workers=workers))
    limited = open_source(Walk(7, 5))
    limited.limit(4)
    assert limited.count == 4
    list(stream(limited, SMALL, workers=workers))
    assert limited.walked == 4


@pytest.mark.parametrize("workers", [0, 2])
def test_tensors_that_belong_to_a_graph(workers: int) -> None:
    weight = torch.ones(1, requires_grad=True)
    items = [torch.rand(3, 4, 4) * weight for _ in range(4)]
    batches = list(stream(open_source(items), SMALL, batch_size=2, workers=workers))
    assert torch.equal(torch.cat([batch.images for batch in batches]), torch.stack(items).detach())
    assert not any(batch.images.requires_grad for batch in batches)
    pictures = stream(open_source([picture()]), lambda image: SMALL(image) * weight, workers=workers)
    assert not next(iter(pictures)).images.requires_grad


def test_a_stream_that_ends_early_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules["zfkernels.data.stream"]

    def end(*_: object) -> None:
        raise StopIteration  # which ends a loop over a DataLoader

    monkeypatch.setattr(module, "_collate", end)
    with pytest.raises(RuntimeError, match="stream: Raises ended 5 batches early"):
        list(stream(open_source(Raises()), SMALL, batch_size=2, workers=1))
    monkeypatch.setattr(module._Walked, "__iter__", lambda self: iter(()))
    with pytest.raises(RuntimeError, match="stream: the walk through Walk ended without its end"):
        list(stream(open_source(Walk(5, 5)), SMALL, workers=0))


def test_tensors_that_are_no_floating_point_numbers() -> None:
    items = [torch.rand(3, 4, 4), torch.ones(3, 4, 4).int(), torch.rand(3, 4, 4).to_sparse()]
    (batch,) = stream(open_source(items), SMALL, workers=0)
    assert batch.ids.tolist() == [0]
    assert [n for n, _ in batch.skipped] == [1, 2]


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(touched) (w) file closefile\n%%EOF\n"


def test_pillow_opens_formats_that_are_named_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("a program was started"))
    (tmp_path / "x.webp").write_bytes(EPS)
    with pytest.raises(UnreadableImageError, match="not an image file"):
        open_picture(tmp_path / "x.webp", formats=("WEBP",))
    (tmp_path / "x.webp").write_bytes(encoded(picture()))
    with pytest.raises(UnreadableImageError, match="not an image file"):
        open_picture(tmp_path / "x.webp", formats=("WEBP",))
    assert open_picture(tmp_path / "x.webp", formats=("PNG",)).size == (12, 10)


@pytest.mark.parametrize("how", ["worker", "command line"])
def test_a_data_set_that_opens_all_formats_starts_no_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "gs").write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    (programs / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    (tmp_path / "photos" / "class").mkdir(parents=True)
    for n in range(2):
        (tmp_path / "photos" / "class" / f"{n}.png").write_bytes(encoded(picture(seed=n)))
    if how == "worker":
        source = open_source(ImageFolder(tmp_path / "photos"))
    else:
        source = open_data(f"ImageFolder:{tmp_path / 'photos'}", None)
    (tmp_path / "photos" / "class" / "1.png").write_bytes(EPS)
    (batch,) = stream(source, SMALL, workers=1 if how == "worker" else 0)
    assert batch.skipped == [(1, "Unable to locate Ghostscript on paths")]
    assert not (tmp_path / "started").exists()


def test_no_other_part_of_the_package_opens_pictures() -> None:
    package = Path(patience.__file__).parent
    found = [p.name for p in package.rglob("*.py") if "Image.open(" in p.read_text()]
    assert found == ["pictures.py"]


def test_sizes_are_bounded_whatever_pillow_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.init()  # Pillow's plugins load pictures of their own
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("it was decoded"))
    bomb = BytesIO(b"P4 20000 20000\n")
    with pytest.raises(UnreadableImageError, match="decompression bomb: 20000x20000 pixels"):
        open_picture(bomb)
    with pytest.raises(UnreadableImageError, match="decompression bomb: 9x9 pixels, at most 80"):
        open_picture(BytesIO(b"P4 9 9\n"), max_pixels=80)


def test_damaged_zip_directories_are_refused_in_a_sentence(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for key in ("a/1.png", "b/2.png"):
            archive.writestr(key, encoded(picture()))
    whole = (tmp_path / "x.zip").read_bytes()
    directory = whole.index(b"PK\1\2")
    for at in range(directory, len(whole)):
        for value in (0, 0xFF, whole[at] ^ 0x10):
            (tmp_path / "y.zip").write_bytes(whole[:at] + bytes([value]) + whole[at + 1 :])
            try:
                source = open_source(tmp_path / "y.zip")
            except ValueError as error:
                assert str(error).startswith("open_source: expected data")  # noqa: PT017
                continue
            assert len(source) == 2 or source.ignored  # nothing is lost without a word
            for image_id in source.order:
                with contextlib.suppress(UnreadableImageError):
                    source.load(image_id)

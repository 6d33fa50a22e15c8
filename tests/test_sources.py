"""Sources beyond one folder or archive: shards, remote addresses, data sets to walk through, and what changes."""

from __future__ import annotations

import os
import tarfile
from io import BytesIO
from pathlib import Path

import pytest
import torch
from support.pictures import KEYS, archived, encoded, make_folder, picture

from zfkernels.data import open_source, stream
from zfkernels.models import Preprocess

SMALL = Preprocess(size=8, resize=8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "photos")


def shards(folder: Path) -> Path:
    """Two shards of a WebDataset: each sample a picture with its class beside it, one class missing."""
    folder.mkdir()
    for shard in range(2):
        with tarfile.open(folder / f"s-{shard:03d}.tar", "w") as archive:
            for n in range(3):
                files = {f"{n:04d}.png": encoded(picture(seed=3 * shard + n)), f"{n:04d}.cls": f"{n % 2}\n".encode()}
                files |= {f"{n:04d}.json": b"{}"}
                if shard == 1 and n == 2:
                    del files["0002.cls"]
                for name, data in files.items():
                    member = tarfile.TarInfo(name)
                    member.size = len(data)
                    archive.addfile(member, BytesIO(data))
    return folder


@pytest.mark.parametrize("how", ["", "s-*.tar", "s-{000..001}.tar", "s-{000,001}.tar"])
@pytest.mark.parametrize("workers", [0, 2])
def test_shards_of_a_webdataset(tmp_path: Path, how: str, workers: int) -> None:
    source = open_source(os.path.join(shards(tmp_path / "shards"), how).rstrip("/"))
    assert source.keys == [f"s-{shard:03d}.tar/{n:04d}.png" for shard in range(2) for n in range(3)]
    assert source.ignored == []
    batches = list(stream(source, SMALL, batch_size=4, workers=workers))
    assert [label for batch in batches for label in batch.labels] == ["0", "1", "0", "0", "1", None]
    images = torch.cat([batch.images for batch in batches])
    assert all(torch.equal(images[n], SMALL(picture(seed=n))) for n in range(6))


@pytest.mark.parametrize("kind", ["folder", "tar", "shards"])
def test_addresses_of_fsspec(folder: Path, tmp_path: Path, kind: str) -> None:
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    local = {"folder": folder, "tar": archived(folder, "tar"), "shards": shards(tmp_path / "shards")}[kind]
    memory.put(str(local), f"/place/{local.name}", recursive=True)
    address = f"memory://place/{local.name}" + ("/s-{000..001}.tar" if kind == "shards" else "")
    far, near = open_source(address), open_source(local)
    assert far.keys == near.keys
    for image_id in far.order:
        (image, label), (other, same) = far.load(image_id), near.load(image_id)
        assert image.tobytes() == other.tobytes()
        assert label == same
    with pytest.raises(FileNotFoundError, match="expected data an existing folder or archives, got memory://nowhere"):
        open_source("memory://nowhere")


def test_a_remote_shard_that_is_no_archive_is_refused(tmp_path: Path) -> None:
    memory = pytest.importorskip("fsspec").filesystem("memory")
    memory.store.clear()
    for path in shards(tmp_path / "shards").iterdir():
        memory.pipe(f"/place/shards/{path.name}", path.read_bytes())
    memory.pipe("/place/shards/s-notes", b"no archive")
    assert len(open_source("memory://place/shards/s-*.tar")) == 6
    with pytest.raises(ValueError, match=r"expected data shards that are archives, got .*/s-notes"):
        open_source("memory://place/shards/s-*")


class Walk(torch.utils.data.IterableDataset):
    def __init__(self, count: int = 7, breaks: bool = False) -> None:
        self.count, self.breaks = count, breaks

    def __iter__(self):
        for n in range(self.count):
            if self.breaks and n == 5:
                raise OSError("connection lost")
            yield ("no picture" if n == 3 else picture(seed=n)), n % 2


@pytest.mark.parametrize("workers", [0, 2])
def test_a_data_set_that_can_only_be_walked_through(workers: int) -> None:
    source = open_source(Walk())
    assert source.count is None
    batches = list(stream(source, SMALL, batch_size=2, workers=workers, skip=lambda number: number == 1))
    assert [batch.number for batch in batches] == [0, 2, 3]
    assert [batch.ids.tolist() for batch in batches] == [[0, 1], [4, 5], [6]]
    (again,) = stream(source, SMALL, ids=[6, 3, 1], batch_size=5, workers=workers)
    assert again.ids.tolist() == [1, 6]
    assert again.skipped == [(3, "open_source: expected data whose items are pictures or tensors, got str")]
    assert torch.equal(again.images[1], SMALL(picture(seed=6)))
    with pytest.raises(RuntimeError, match="Walk gave 1 fewer images than in the walk before"):
        list(stream(source, SMALL, ids=[1, 9], workers=workers))
    source.limit(4)
    assert sum(len(batch.ids) + len(batch.skipped) for batch in stream(source, SMALL, workers=workers)) == 4


@pytest.mark.parametrize("workers", [0, 2])
def test_a_walk_that_breaks_off(workers: int) -> None:
    batches = stream(open_source(Walk(breaks=True)), SMALL, batch_size=2, workers=workers)
    with pytest.raises(RuntimeError, match=r"^stream: Walk broke off after 5 images: connection lost$"):
        list(batches)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_walk_that_does_not_begin_again(workers: int) -> None:
    class Once(torch.utils.data.IterableDataset):
        begun = 0

        def __iter__(self):
            self.begun += 1
            if self.begun > 1:
                raise OSError("connection lost")
            return iter([picture()] * 3)

    source = open_source(Once())
    with pytest.raises(RuntimeError, match=r"^stream: Once broke off before the first image: connection lost$"):
        list(stream(source, SMALL, workers=workers))


def test_a_walk_without_images_and_one_that_cannot_be_repeated() -> None:
    with pytest.raises(ValueError, match="got an empty data set"):
        open_source(Walk(0))
    with pytest.raises(TypeError, match=r"walked through more than once, got an iterator \(generator\)"):
        open_source(picture() for _ in range(3))


def test_a_data_set_that_is_shorter_than_it_says() -> None:
    class Short(list):
        def __len__(self) -> int:
            return 4

    (batch,) = stream(open_source(Short([picture(), picture()])), SMALL, workers=0)
    assert batch.ids.tolist() == [0, 1]
    assert [image_id for image_id, _ in batch.skipped] == [2, 3]


@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
def test_a_digest_tells_changed_images(folder: Path, kind: str) -> None:
    def digest() -> str:
        return open_source(folder if kind == "folder" else archived(folder, kind)).digest()

    before = digest()
    assert kind == "tar" or digest() == before  # an archive that was written again may be another one
    (folder / "a/1.png").write_bytes(encoded(picture(seed=99)))
    assert digest() != before


def test_folders_that_cannot_be_read_are_listed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scandir = os.scandir

    def refuse(path: str) -> object:
        if str(path).endswith("c"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    source = open_source(folder)
    assert source.keys == [key for key in KEYS if not key.startswith("c/")]
    assert ("c", "folder cannot be read: Permission denied") in source.ignored

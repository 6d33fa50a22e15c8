"""Every image of a folder or archive has one key of its own, or is listed with the reason why it is left out."""

from __future__ import annotations

import os
import stat
import tarfile
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
import torch
from support.pictures import KEYS, archived, encoded, make_folder, picture

from zfkernels.data import open_source, stream
from zfkernels.models import Preprocess

SMALL = Preprocess(size=8, resize=8)


def tar_of(path: Path, *members: tuple[str, object]) -> Path:
    """A tar file; a member's content is bytes, a dict of TarInfo's fields, or a seed."""
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            if isinstance(content, dict):
                for field, value in content.items():
                    setattr(member, field, value)
                archive.addfile(member)
            else:
                data = content if isinstance(content, bytes) else encoded(picture(seed=int(str(content))))
                member.size = len(data)
                archive.addfile(member, BytesIO(data))
    return path


def zip_of(path: Path, *members: tuple[str, object]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members:
            member = zipfile.ZipInfo(name)
            if isinstance(content, dict):
                member.external_attr = (content["mode"] | 0o644) << 16
                archive.writestr(member, content.get("target", ""))
            else:
                archive.writestr(member, encoded(picture(seed=int(str(content)))))
    return path


def seed_of(source: object, key: str) -> int:
    """Which of the test's pictures is under a key."""
    image, _ = source.load(source.keys.index(key))  # type: ignore[attr-defined]
    return next(seed for seed in range(100) if image.tobytes() == picture(seed=seed).tobytes())


def test_shards_of_equal_names_keep_their_folders(tmp_path: Path) -> None:
    for n, part in enumerate(("train", "val")):
        (tmp_path / part).mkdir()
        tar_of(tmp_path / part / "00000.tar", ("0.png", 2 * n), ("1.png", 2 * n + 1), ("1.cls", f"c{n}".encode()))
    source = open_source(tmp_path / "{train,val}" / "00000.tar")
    assert source.keys == [f"{part}/00000.tar/{n}.png" for part in ("train", "val") for n in (0, 1)]
    assert [seed_of(source, key) for key in source.keys] == [0, 1, 2, 3]
    (batch,) = stream(source, SMALL, workers=0)
    assert batch.labels == [None, "c0", None, "c1"]
    assert len(batch.ids) == source.count == 4


def test_a_shard_that_is_named_twice_is_refused(tmp_path: Path) -> None:
    tar_of(tmp_path / "0.tar", ("0.png", 0))
    with pytest.raises(ValueError, match=r"shards that are named once, got .*0\.tar twice"):
        open_source(tmp_path / "{0,0}.tar")


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("archive_of", [tar_of, zip_of])
def test_the_last_of_several_members_of_one_name_counts(tmp_path: Path, archive_of: Callable[..., Path]) -> None:
    path = archive_of(tmp_path / "x.archive", ("a/1.png", 1), ("./a//1.png", 2), ("a/1.png", 3), ("/a/2.png", 4))
    source = open_source(path)
    assert source.keys == ["a/1.png", "a/2.png"]
    assert [seed_of(source, key) for key in source.keys] == [3, 4]
    again = "a later member has the same name"
    assert source.ignored == [("./a//1.png", again), ("a/1.png", again)]


@pytest.mark.parametrize("archive_of", [tar_of, zip_of])
def test_what_leads_out_of_an_archive_is_listed(tmp_path: Path, archive_of: Callable[..., Path]) -> None:
    source = open_source(archive_of(tmp_path / "x", ("../a.png", 1), ("a/../b.png", 2), ("c.png", 3), ("", 4)))
    assert source.keys == ["c.png"]
    out = "a path that leads out of the archive"
    assert source.ignored == [("", "a member without a name"), ("../a.png", out), ("a/../b.png", out)]


SYMLINK, HARD = tarfile.SYMTYPE, tarfile.LNKTYPE
LINKS = {
    "b/linked.png": "../a/1.png",
    "again.png": "b/linked.png",
    "class": "a",
    "b/through.png": "../class/10.png",
}
LINKED = sorted([*KEYS, "again.png", "b/linked.png", "b/through.png", "class/1.png", "class/10.png"])


@pytest.mark.parametrize("kind", ["folder", "tar", "zip"])
def test_links_are_followed_in_folders_and_archives(tmp_path: Path, kind: str) -> None:
    folder = make_folder(tmp_path / "photos")
    for name, target in LINKS.items():
        (folder / name).symlink_to(target)
    (folder / "loop").symlink_to(".")
    (folder / "nowhere.png").symlink_to("nothing")
    if kind == "tar":
        with tarfile.open(tmp_path / "x.tar", "w") as archive:
            archive.add(folder, ".")
    elif kind == "zip":
        with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
            for path in sorted(folder.rglob("*")):
                if path.is_symlink():
                    link = zipfile.ZipInfo(str(path.relative_to(folder)))
                    link.external_attr = (stat.S_IFLNK | 0o777) << 16
                    archive.writestr(link, os.readlink(path))
                elif path.is_file():
                    archive.write(path, path.relative_to(folder))
    source = open_source(folder if kind == "folder" else tmp_path / f"x.{kind}")
    assert source.keys == LINKED
    plain = open_source(folder)
    assert all(source.load(n)[0].tobytes() == plain.load(n)[0].tobytes() for n in range(len(LINKED)))
    assert source.load(LINKED.index("class/1.png"))[1] == "class"
    nowhere = "a link to nothing" if kind == "folder" else "a link to what the archive does not hold"
    assert source.ignored == [
        ("loop/", "a link to a folder that it lies in"),
        ("notes.txt", "not an image by its suffix"),
        ("nowhere.png", nowhere),
    ]
    assert sum(len(b.ids) + len(b.skipped) for b in stream(source, SMALL, workers=0)) == source.count == len(LINKED)


def test_hard_links_and_other_members_of_a_tar_file(tmp_path: Path) -> None:
    path = tar_of(
        tmp_path / "x.tar",
        ("deep/1.png", 1),
        ("2.png", {"type": HARD, "linkname": "deep/1.png"}),
        ("deep/3.png", {"type": HARD, "linkname": "/deep/1.png"}),
        ("4.png", {"type": HARD, "linkname": "none.png"}),
        ("5.png", {"type": SYMLINK, "linkname": "/deep/1.png"}),
        ("6.png", {"type": SYMLINK, "linkname": "../x/1.png"}),
        ("7.png", {"type": SYMLINK, "linkname": "7.png"}),
        ("8.png", {"type": tarfile.FIFOTYPE}),
        ("8.png/9.png", 9),
        ("deep", 10),
    )
    source = open_source(path)
    assert source.keys == ["2.png", "deep/1.png", "deep/3.png"]
    assert [seed_of(source, key) for key in source.keys] == [1, 1, 1]
    assert source.ignored == [
        ("4.png", "a link to what the archive does not hold"),
        ("5.png", "a link that leads out of the archive"),
        ("6.png", "a link to what the archive does not hold"),
        ("7.png", "a link to itself"),
        ("8.png", "not a regular file"),
        ("8.png/9.png", "a member below what is no folder"),
        ("deep", "a member with the name of a folder"),
    ]


def test_links_to_links_do_not_multiply_without_end(tmp_path: Path) -> None:
    for n in range(30):
        (tmp_path / "x" / str(n)).mkdir(parents=True)
        for name in "ab":
            (tmp_path / "x" / str(n) / name).symlink_to(f"../{n + 1}")
    (tmp_path / "x/0/1.png").write_bytes(encoded(picture()))
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        archive.add(tmp_path / "x", ".")
    for source in (open_source(tmp_path / "x"), open_source(tmp_path / "x.tar")):
        assert "0/1.png" in source.keys
        assert any(reason == "a folder with more than 64 names" for _, reason in source.ignored)


def test_a_damaged_header_does_not_end_an_archive_without_a_word(tmp_path: Path) -> None:
    path = tar_of(tmp_path / "x.tar", *((f"{n}.png", n) for n in range(4)))
    data = bytearray(path.read_bytes())
    at = data.index(b"2.png\0")
    data[at : at + 20] = b"\xff" * 20
    path.write_bytes(data)
    source = open_source(path)
    assert source.keys == ["0.png", "1.png"]
    assert source.ignored == [(str(path), f"the archive breaks off: a damaged header at byte {at:,}")]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda data, end: data[:end], "the archive has no end: it may have been cut off"),
        (lambda data, end: data[: end - 1], "the archive breaks off: unexpected end of data"),
        (lambda data, end: data[:end] + bytes(1024) + data, "something follows the end of the archive at byte"),
    ],
)
def test_the_end_of_a_tar_file_is_looked_at(tmp_path: Path, change: Callable[..., bytes], problem: str) -> None:
    path = tar_of(tmp_path / "x.tar", ("0.png", 0), ("1.png", 1))
    data = path.read_bytes()
    end = (len(data.rstrip(b"\0")) + 511) // 512 * 512
    path.write_bytes(change(data, end))
    ((name, reason),) = open_source(path).ignored
    assert name == str(path)
    assert reason.startswith(problem)


def test_a_zip_directory_that_is_shorter_than_it_should_be(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "x.zip", *((f"{n}.png", n) for n in range(3)))
    data = bytearray(path.read_bytes())
    end = data.rindex(b"PK\5\6")
    data[end + 10 : end + 12] = (40).to_bytes(2, "little")
    path.write_bytes(data)
    source = open_source(path)
    assert len(source) == 3
    assert source.ignored == [(str(path), "damaged: 3 members, its end says 40")]


def test_names_that_look_the_same_when_they_are_printed(tmp_path: Path) -> None:
    for name in ("a\x1b.png", "a\\x1b.png", "b.png"):
        (tmp_path / name).write_bytes(encoded(picture()))
    source = open_source(tmp_path)
    assert source.keys == ["b.png"]
    assert source.ignored == [("a\\x1b.png", "another file's name is the same once it is printable")] * 2


@pytest.mark.parametrize("kind", ["folder", "tar", "zip", "shards"])
def test_no_name_label_or_reason_moves_a_cursor(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "photos"
    name = "x\x1b[2J\n\u202e/\x07\x9b.png"
    (folder / name).parent.mkdir(parents=True)
    (folder / name).write_bytes(encoded(picture()))
    if kind == "shards":
        members = ((f"{name}", 1), (f"{name[:-4]}.cls", b"\x1b[31mred\xff"), ("\x1b.png", {"type": tarfile.FIFOTYPE}))
        tar_of(tmp_path / "0-\x1b.tar", *members)
    path = {"folder": folder, "shards": tmp_path / "0-*.tar"}.get(kind) or archived(folder, kind)
    source = open_source(path)
    image, label = source.load(0)
    assert image.size == (12, 10)
    shown = [*source.keys, str(label), *(part for pair in source.ignored for part in pair)]
    assert not any(c < " " or "\x7f" <= c < "\xa0" or c == "\u202e" for text in shown for c in text)
    assert source.keys[0].endswith(r"x\x1b[2J\x0a\u202e/\x07\x9b.png")
    assert label == (r"\x1b[31mred\xff" if kind == "shards" else r"x\x1b[2J\x0a\u202e")


def test_names_without_end_are_cut(tmp_path: Path) -> None:
    source = open_source(tar_of(tmp_path / "x.tar", ("a/" * 3000 + "x.png", 1), ("b.png", 2)))
    assert source.keys == ["b.png"]
    ((name, reason),) = source.ignored
    assert len(name) < 5000
    assert reason == "a name of 6,005 characters"


def test_a_folder_and_its_archive_agree_on_what_is_hidden(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "photos")
    (folder / ".thumbs").mkdir()
    (folder / ".thumbs" / "1.png").write_bytes(encoded(picture()))
    assert open_source(folder).keys == open_source(archived(folder, "tar")).keys == KEYS
    assert open_source(folder / ".thumbs" / "1.png").keys == ["1.png"]
    (folder / ".one.png").write_bytes(encoded(picture()))
    assert open_source(folder / ".one.png").keys == [".one.png"]  # named, so wanted


@pytest.mark.parametrize("workers", [0, 2])
def test_images_and_left_out_are_what_the_source_counts(tmp_path: Path, workers: int) -> None:
    folder = make_folder(tmp_path / "photos")
    (folder / "a" / "broken.png").write_bytes(b"x")
    source = open_source(folder)
    batches = list(stream(source, SMALL, batch_size=2, workers=workers))
    ids = torch.cat([batch.ids for batch in batches]).tolist() + [n for batch in batches for n, _ in batch.skipped]
    assert sorted(ids) == list(range(source.count))

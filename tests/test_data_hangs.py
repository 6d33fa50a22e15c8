"""Data that never ends or never comes: it is refused, or said."""

from __future__ import annotations

import logging
import os
import tarfile
import threading
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from support.pictures import encoded, picture
from torch import nn

from zfkernels.cli.app import app
from zfkernels.data import open_source, patience, stream
from zfkernels.gallery import build_gallery
from zfkernels.models import Preprocess

pytestmark = pytest.mark.usefixtures("no_hang")

SMALL = Preprocess(size=8, resize=8)


@pytest.mark.parametrize("name", ["pipe", "pipe.png", "pipe.tar"])
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(ValueError, match=r"expected data a folder or a regular file, got .*, which is neither"):
        open_source(tmp_path / name)
    os.mkfifo(tmp_path / "0.tar")
    with pytest.raises(ValueError, match="expected data a folder or a regular file"):
        open_source(tmp_path / "*.tar")


def test_occlude_refuses_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.png")
    done = CliRunner().invoke(app, ["occlude", str(tmp_path / "x.png"), "--out", str(tmp_path / "o.png")])
    assert done.exit_code == 1
    assert "expected data a folder or a regular file" in done.output


def test_a_device_is_refused() -> None:
    with pytest.raises(ValueError, match="got /dev/zero, which is neither"):
        open_source("/dev/zero")


@pytest.mark.parametrize("name", ["x", "x.png", "x.zip", "x.tar", "x.tar.gz", "x.tar.xz"])
@pytest.mark.parametrize("start", [b"", b"\x1f\x8b", b"\xfd7zXZ\0", b"BZh9", b"PK\5\6", b"PK\3\4"])
def test_twenty_gigabytes_of_zeros(tmp_path: Path, name: str, start: bytes) -> None:
    with open(tmp_path / name, "wb") as file:
        file.write(start)
        file.truncate(20 << 30)
    if name == "x.png" and not start:  # an image by its name
        assert [reason for _, reason in next(iter(stream(open_source(tmp_path / name), SMALL, workers=0))).skipped] == [
            "larger than 256 MiB"
        ]
        return
    with pytest.raises(ValueError, match=r"open_source: expected data (an archive|with at least one image)"):
        open_source(tmp_path / name)


@pytest.mark.parametrize("kind", ["gz", "xz", "bz2"])
def test_an_archive_before_twenty_gigabytes_of_zeros(tmp_path: Path, kind: str) -> None:
    with tarfile.open(tmp_path / "x.tar", f"w:{kind}") as archive:
        for n in range(3):
            data = encoded(picture(seed=n))
            member = tarfile.TarInfo(f"{n}.png")
            member.size = len(data)
            archive.addfile(member, BytesIO(data))
    with open(tmp_path / "x.tar", "r+b") as file:
        file.truncate(20 << 30)
    source = open_source(tmp_path / "x.tar")
    assert source.keys == ["0.png", "1.png", "2.png"]
    assert all(source.load(n)[0].tobytes() == picture(seed=n).tobytes() for n in range(3))


def test_a_header_that_asks_for_gigabytes(tmp_path: Path) -> None:
    data = encoded(picture())
    good = header("1.png", len(data)) + data.ljust(-(-len(data) // 512) * 512, b"\0")
    with open(tmp_path / "x.tar", "wb") as file:
        file.write(good + header("2.png", 1 << 30, tarfile.GNUTYPE_LONGNAME))
        file.truncate(2 << 30)
    source = open_source(tmp_path / "x.tar")
    assert source.keys == ["1.png"]
    assert source.ignored == [
        (str(tmp_path / "x.tar"), "the archive breaks off: a header of more than 16,777,216 bytes")
    ]


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    """A block of a tar file with any size at all."""
    member = tarfile.TarInfo(name)
    member.type = kind
    block = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    field = (size % (1 << 88)).to_bytes(11, "big")
    block[124:136] = (b"\xff" if size < 0 else b"\x80") + field
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


@pytest.mark.parametrize("size", [-512, -1024, -1, -(1 << 40), 1 << 62])
@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_SPARSE])
def test_members_of_senseless_size(tmp_path: Path, size: int, kind: bytes) -> None:
    data = encoded(picture())
    good = header("1.png", len(data)) + data.ljust(-(-len(data) // 512) * 512, b"\0")
    (tmp_path / "x.tar").write_bytes(good + header("2.png", size, kind) + good * 3 + bytes(10240))
    source = open_source(tmp_path / "x.tar")
    assert source.load(0)[0].tobytes() == picture().tobytes()
    harmless = size == -1 and kind != tarfile.REGTYPE  # rounded up to no bytes at all
    assert harmless or any("breaks off" in reason for _, reason in source.ignored)


def test_headers_that_follow_headers_without_end(tmp_path: Path) -> None:
    long = header("x", 2, tarfile.GNUTYPE_LONGNAME) + b"y\0".ljust(512, b"\0")
    good = header("1.png", 0)
    (tmp_path / "x.tar").write_bytes(good + long * 5000 + good + bytes(1024))
    source = open_source(tmp_path / "x.tar")
    assert source.keys == ["1.png"]
    assert any("breaks off" in reason for _, reason in source.ignored)


def test_a_source_that_gives_nothing_says_so(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(patience, "QUIET", 0.05)
    said = threading.Event()

    class Slow:
        def __len__(self) -> int:
            return 2

        def __getitem__(self, index: int) -> Image.Image:
            if threading.current_thread() is threading.main_thread() and self.waits:
                assert said.wait(30)
            return picture()

        waits = False

    source = open_source(Slow())
    source.dataset.waits = True
    sentences: list[str] = []

    def say(sentence: str) -> None:
        sentences.append(sentence)
        if len(sentences) == 2:
            said.set()

    list(stream(source, SMALL, batch_size=2, workers=0, say=say))
    assert sentences[:2] == [
        f"stream: Slow has given nothing for {seconds} seconds; still waiting" for seconds in (0.05, 0.1)
    ]
    before = len(sentences)
    time.sleep(0.2)  # nobody is waited for any more
    assert len(sentences) == before

    said.clear()
    handler: Callable[[logging.LogRecord], bool] = lambda record: said.set() or True  # noqa: E731
    caplog.handler.addFilter(handler)
    with caplog.at_level(logging.WARNING, "zfkernels"):
        list(stream(source, SMALL, batch_size=2, workers=0))
    assert "Slow has given nothing for 0.05 seconds" in caplog.text


def test_a_gallery_passes_on_that_nothing_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "QUIET", 0.05)
    said = threading.Event()

    class Slow:
        opened = False

        def __len__(self) -> int:
            return 1

        def __getitem__(self, index: int) -> Image.Image:
            if self.opened:
                assert said.wait(100)
            self.opened = True
            return picture()

    events: list[dict[str, object]] = []

    def listen(event: dict[str, object]) -> None:
        events.append(event)
        if event["event"] == "waiting":
            said.set()

    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU()).eval()
    build_gallery(model, Slow(), layers="1", out=tmp_path / "out", workers=0, progress=listen, preprocess=SMALL)
    (sentence,) = {event["sentence"] for event in events if event["event"] == "waiting"} - {
        f"stream: Slow has given nothing for {0.05 * n:g} seconds; still waiting" for n in range(2, 2000)
    }
    assert sentence == "stream: Slow has given nothing for 0.05 seconds; still waiting"

"""The bar of a method: on stderr, often for people, now and then in a file, and not at all where nobody asked."""

from __future__ import annotations

import re
import sys
import time
import types

import pytest

pytest.importorskip("tqdm.auto")  # before any test pretends to be a notebook

from zfkernels import progress
from zfkernels.progress import progress_bar


@pytest.mark.parametrize("reader", ["terminal", "notebook", "file"])
def test_a_file_gets_a_line_now_and_then(
    reader: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: reader == "terminal")
    shell = types.SimpleNamespace(config={"IPKernelApp": {}}) if reader == "notebook" else None
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setitem(sys.modules, "ipykernel", types.SimpleNamespace())  # imported by some library: no notebook yet
    with progress_bar(200, "images", True) as advance:
        for _ in range(200):
            advance(1)
            time.sleep(0.003)  # 0.6 seconds in all, six times what a terminal waits for
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = [line for line in captured.err.replace("\n", "\r").split("\r") if line.strip()]
    assert "200/200" in lines[-1]
    assert (len(lines) >= 4) == (reader != "file")
    assert progress.LOGGED >= 1


def test_nothing_is_shown_unasked(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tqdm", None)
    with progress_bar(3, "images", False) as advance:
        advance(3)
    assert capsys.readouterr().err == ""
    with pytest.raises(ImportError, match="tqdm is not installed"), progress_bar(3, "images", True):
        pass


def test_long_work_is_forecast_from_its_first_piece(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("time.perf_counter", lambda: now)
    with progress_bar(210, "images", True, name="reading", done=10) as advance:
        now += 3  # 10 of 200 in 3 seconds
        advance(10)
        said = capsys.readouterr().err
        assert "reading" in said
        assert re.search(r" 10/210 .*about 60 s in all, [0-9.]+ GB of memory", said)
    capsys.readouterr()
    with progress_bar(200, "images", True) as advance:
        now += 0.1  # 2 seconds in all
        advance(10)
        now += 1.9
        advance(190)
    with progress_bar(None, "images", True) as advance:
        now += 100
        advance(10)
    assert "in all" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "1 s"), (89, "89 s"), (91, "2 min"), (5000, "83 min"), (9000, "2.5 h"), (400_000, "4.6 days")],
)
def test_durations_in_words(seconds: float, words: str) -> None:
    assert progress.in_words(seconds) == words


def test_memory_is_that_of_this_process() -> None:
    before = float(progress.gigabytes().split()[0])
    block = bytearray(700_000_000)
    block[::4096] = b"x" * len(block[::4096])
    assert float(progress.gigabytes().split()[0]) >= max(0.7, before)

"""The bar of a method: on stderr, often for people, now and then in a file, and not at all where nobody asked."""

from __future__ import annotations

import sys
import time

import pytest

pytest.importorskip("tqdm")

from zfkernels import progress
from zfkernels.progress import progress_bar


@pytest.mark.parametrize("terminal", [True, False], ids=["terminal", "file"])
def test_a_file_gets_a_line_now_and_then(
    terminal: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    with progress_bar(200, "images", True) as advance:
        for _ in range(200):
            advance(1)
            time.sleep(0.003)  # 0.6 seconds in all, six times what a terminal waits for
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = [line for line in captured.err.replace("\n", "\r").split("\r") if line.strip()]
    assert "200/200" in lines[-1]
    assert (len(lines) >= 4) == terminal
    assert progress.LOGGED >= 1


def test_nothing_is_shown_unasked(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tqdm", None)
    with progress_bar(3, "images", False) as advance:
        advance(3)
    assert capsys.readouterr().err == ""
    with pytest.raises(ImportError, match="tqdm is not installed"), progress_bar(3, "images", True):
        pass

"""The table of mistakes in the documents: each is made, and answered as it says."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("PIL")
pytest.importorskip("pyarrow")

DOCUMENT = (Path(__file__).parent.parent / "docs" / "mistakes.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| ([^|]+) \| `([^`]+)` \| `([^`]+)`( \(a warning\))? \|$", DOCUMENT, re.MULTILINE)


@pytest.fixture(scope="module")
def names() -> dict[str, Any]:
    found: dict[str, Any] = {}
    exec(DOCUMENT.partition("```python\n")[2].partition("```")[0], found)
    return found


def test_the_table_is_read() -> None:
    assert len(ROWS) == DOCUMENT.count("\n| ") - 1 >= 15


@pytest.mark.parametrize(("mistake", "code", "said", "warned"), ROWS, ids=[row[0] for row in ROWS])
def test_what_is_said(
    mistake: str,
    code: str,
    said: str,
    warned: str,
    names: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        if warned:
            eval(code, names)
            assert [str(warning.message) for warning in caught] == [said]
        else:
            with pytest.raises((TypeError, ValueError, FileNotFoundError)) as raised:
                eval(code, names)
            assert said in str(raised.value)
            assert "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) in ([], [tmp_path / "gallery"])

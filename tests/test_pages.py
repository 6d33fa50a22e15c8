"""The code of the documents' pages runs, and leaves the pictures that the pages show."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent


def _pages() -> ModuleType:
    spec = importlib.util.spec_from_file_location("pages", ROOT / "tools" / "pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


pages = _pages()


@pytest.mark.parametrize("page", pages.pages(), ids=lambda page: page.stem)
def test_code_of_a_page_runs(page: Path, tmp_path: Path) -> None:
    assert pages.code_of(page).strip()
    pages.run(page, tmp_path)


def test_a_page_whose_code_fails_is_named(tmp_path: Path) -> None:
    page = tmp_path / "broken.md"
    page.write_text("Words.\n\n```python\n1 / 0\n```\n", encoding="utf-8")
    with pytest.raises(RuntimeError, match=r"(?s)broken.md: its code fails.*broken.md\", line 4.*ZeroDivisionError"):
        pages.run(page, tmp_path)


def test_a_picture_that_is_not_made_is_named(tmp_path: Path) -> None:
    page = tmp_path / "bare.md"
    page.write_text("![A map](../made/bare/map.png)\n\n```python\npass\n```\n", encoding="utf-8")
    with pytest.raises(RuntimeError, match=r"bare.md: expected its code to leave \['map.png'\]"):
        pages.run(page, tmp_path)


def test_other_blocks_are_not_run(tmp_path: Path) -> None:
    page = tmp_path / "other.md"
    page.write_text("```py\n1 / 0\n```\n\n```python\nprint(1)\n```\n", encoding="utf-8")
    pages.run(page, tmp_path)

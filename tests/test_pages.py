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


def test_the_how_to_pages_are_what_the_scripts_make_of_them() -> None:
    expected = pages.written_pages()
    found = {page: page.read_text(encoding="utf-8") for page in (ROOT / "docs" / "how-to").glob("*.md")}
    assert len(expected) >= 9
    assert found == expected, "python tools/pages.py --write"


@pytest.mark.parametrize("script", sorted((ROOT / "examples").glob("*.py")), ids=lambda script: script.stem)
def test_a_script_makes_a_picture_and_says_what_to_read_next(script: Path, tmp_path: Path) -> None:
    page = tmp_path / script.with_suffix(".md").name
    page.write_text(pages.text_of(script), encoding="utf-8")
    assert pages.pictures_of(page) == [f"{script.stem}.png"]
    assert "\nYou get: " in page.read_text(encoding="utf-8")
    assert page.read_text(encoding="utf-8").rpartition("\n## ")[2].startswith("Next\n")
    assert len(script.read_text(encoding="utf-8").splitlines()) <= 100


def test_a_script_as_a_page(tmp_path: Path) -> None:
    script = tmp_path / "small.py"
    words = '"""A title\n\nYou get: words.\n"""\n\n# %% [markdown]\n# ## A heading\n#\n# Text.\n\n'
    script.write_text(f"{words}# %%\nx = 1\n\n# %%\ny = 2\n", encoding="utf-8")
    head = "# A title\n\nYou get: words.\n\nThis page is the script `examples/small.py`."
    cells = "## A heading\n\nText.\n\n```python\nx = 1\n```\n\n```python\ny = 2\n```\n"
    assert pages.text_of(script) == f"{head}\n\n{cells}"
    script.write_text("x = 1\n# %%\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"small\.py: expected a docstring and nothing else before the first cell"):
        pages.text_of(script)


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

"""The notebook for one's own network runs from its first cell to its last, and says what is true."""

from __future__ import annotations

import base64
import sys
from pathlib import Path
from typing import Any

import pytest

nbformat = pytest.importorskip("nbformat")
pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")
pytest.importorskip("skimage")

REPOSITORY = Path(__file__).parent.parent
sys.path.insert(0, str(REPOSITORY / "tools"))
NOTEBOOK = REPOSITORY / "examples" / "my_network.ipynb"


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    from notebook import executed

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(tmp_path_factory.mktemp("notebook")))
        patch.setenv("PYTHONPATH", str(REPOSITORY), prepend=":")
        return executed(NOTEBOOK).cells


def shown(cell: Any, kind: str) -> list[str]:
    return [output["data"][kind] for output in cell.get("outputs", ()) if kind in output.get("data", {})]


def printed(cells: list[Any]) -> str:
    return "".join(
        output["text"] for cell in cells for output in cell.get("outputs", ()) if output.output_type == "stream"
    )


def test_it_runs_and_shows_itself(cells: list[Any]) -> None:
    pictures = [picture for cell in cells for picture in shown(cell, "image/png")]
    assert len(pictures) == 5  # the photo, the plan, the sweep, the projections, the gallery
    assert all(base64.b64decode(picture).startswith(b"\x89PNG") for picture in pictures)
    tables = [table for cell in cells for table in shown(cell, "text/html")]
    assert any("Gallery: 72 maps of 2 layers of my network" in table for table in tables)
    assert any("OcclusionMap: 1 image" in table for table in tables)
    assert all(output.get("name") != "stderr" for cell in cells for output in cell.get("outputs", ()))  # no warning


def test_what_it_says_is_true(cells: list[Any]) -> None:
    text = printed(cells)
    assert int(text.split("%")[0]) >= 90
    words = text.partition("hiding rows ")[2].split()
    top, left = int(words[0]), int(words[5])
    assert abs(top + 12 - 42) < 12  # the middles of the square and of the cat
    assert abs(left + 12 - 20) < 12


def test_what_is_kept_is_of_these_cells() -> None:
    kept = nbformat.read(NOTEBOOK, as_version=4)
    assert NOTEBOOK.stat().st_size < 300_000
    code = [cell for cell in kept.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert sum(len(shown(cell, "image/png")) for cell in code) == 5

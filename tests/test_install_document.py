"""docs/install.md and the package's metadata agree with the code."""

from __future__ import annotations

import re
from pathlib import Path

import zfkernels

REPOSITORY = Path(__file__).parent.parent
INSTALL = (REPOSITORY / "docs" / "install.md").read_text(encoding="utf-8")
DOCUMENTED = set(re.findall(r"^\| `(ZFKERNELS_[A-Z_]+)` \|", INSTALL, re.MULTILINE))


def variables(*folders: str) -> set[str]:
    """The names of environment variables in setup.py and in the sources in these folders."""
    paths = [REPOSITORY / "setup.py", *(path for folder in folders for path in (REPOSITORY / folder).rglob("*"))]
    sources = [
        path.read_text(encoding="utf-8") for path in paths if path.suffix in {".py", ".cpp", ".h", ".cu", ".cuh"}
    ]
    return {name for source in sources for name in re.findall(r"ZFKERNELS_[A-Z_]*[A-Z]\b", source)}


def test_every_variable_is_in_the_table() -> None:
    read = variables("zfkernels", "csrc", "tools")
    assert read
    assert read - DOCUMENTED == set()


def test_every_variable_of_the_table_is_read_somewhere() -> None:
    assert DOCUMENTED
    assert DOCUMENTED - variables("zfkernels", "csrc", "tools", "tests") == set()


def test_the_version_is_the_same_where_it_is_cited() -> None:
    citation = (REPOSITORY / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {zfkernels.__version__}\n" in citation
    assert f"zfkernels-{zfkernels.__version__}-cp310-abi3" in INSTALL


def test_files_that_are_linked_are_there() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", INSTALL)
    assert links
    assert [link for link in links if "://" not in link and not (REPOSITORY / "docs" / link).exists()] == []

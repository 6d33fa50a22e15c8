"""The commands in the documents are commands: names, options and values as the command line takes them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from zfkernels.cli.app import app

DOCUMENTS = Path(__file__).parent.parent / "docs"


def commands(text: str) -> list[list[str]]:
    """The words of the indented lines that begin with ``zfkernels``, continued lines joined."""
    joined = re.sub(r"\\\n\s*", "", text)
    lines = [line for line in joined.splitlines() if line.startswith("    zfkernels ")]
    return [shlex.split(line, comments=True)[1:] for line in lines]


@pytest.mark.parametrize(("document", "least"), [("paper.md", 14), ("questions.md", 5)])
def test_commands_are_understood(document: str, least: int) -> None:
    found = commands((DOCUMENTS / document).read_text(encoding="utf-8"))
    assert len(found) >= least
    for name, *arguments in found:
        app.commands[name].make_context(name, arguments)  # a click.UsageError: no such option, a value that is none


@pytest.mark.parametrize("document", sorted(DOCUMENTS.rglob("*.md")), ids=lambda path: path.stem)
def test_files_that_are_linked_are_there(document: Path) -> None:
    prose = re.sub(r"^```.*?^```$", "", document.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    links = re.findall(r"\]\(([^)#]+)\)", prose)
    inside = [link for link in links if "://" not in link and "/made/" not in link]
    assert [link for link in inside if not (document.parent / link).exists()] == []


def test_every_page_is_in_the_sites_table() -> None:
    table = set(re.findall(r"[\w/-]+\.md", (DOCUMENTS.parent / "mkdocs.yml").read_text(encoding="utf-8")))
    assert table == {path.relative_to(DOCUMENTS).as_posix() for path in DOCUMENTS.rglob("*.md")}

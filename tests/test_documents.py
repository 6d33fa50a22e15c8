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


@pytest.mark.parametrize("document", ["paper.md", "questions.md", "gpu.md"])
def test_files_that_are_linked_are_there(document: str) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", (DOCUMENTS / document).read_text(encoding="utf-8"))
    missing = [link for link in links if "://" not in link and not (DOCUMENTS / link).exists()]
    assert links
    assert missing == []

"""Runs the code of the documents' pages, so that what they show is what the package does, and their pictures are made.

The blocks of a page that are marked ``python`` run one after the other in one process, in a folder of the page's own,
``docs/made/<page>/``. A page shows what its code has saved there. Blocks that are marked otherwise are not run.

    python tools/pages.py                # all of them
    python tools/pages.py occlude        # one of them

The how-to pages are the scripts in ``examples/``: the words are the script's docstring and its cells that begin with
``# %% [markdown]``, the code is that of the other cells. After a change of a script:

    python tools/pages.py --write        # writes the pages of the scripts anew, and runs nothing
"""

from __future__ import annotations

import argparse
import ast
import os
import re
import subprocess
import sys
from pathlib import Path

DOCUMENTS = Path(__file__).resolve().parent.parent / "docs"
EXAMPLES = DOCUMENTS.parent / "examples"
CELL = re.compile(r"^# %%( \[markdown\])?\n", re.MULTILINE)
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PICTURE = re.compile(r"!\[[^\]]*\]\(\.\./made/([\w-]+)/([\w./-]+)\)")


def pages() -> list[Path]:
    """The pages whose code is run."""
    folders = ("tutorials", "how-to")
    return [
        *(page for name in folders for page in sorted((DOCUMENTS / name).glob("*.md"))),
        DOCUMENTS / "contribute" / "kind.md",
    ]


def written_pages() -> dict[Path, str]:
    """The how-to pages, and what the scripts make of them."""
    return {DOCUMENTS / "how-to" / f"{script.stem}.md": text_of(script) for script in sorted(EXAMPLES.glob("*.py"))}


def text_of(script: Path) -> str:
    """A script as a page: the first line of its docstring is the title.

    Raises:
        ValueError: the script has no docstring, or code before its first cell.
    """
    head, *cells = CELL.split(script.read_text(encoding="utf-8"))
    docstring = ast.get_docstring(ast.parse(head))
    if docstring is None or len(ast.parse(head).body) != 1:
        raise ValueError(f"{script.name}: expected a docstring and nothing else before the first cell")
    title, _, words = docstring.partition("\n")
    parts = [f"# {title}", words.strip(), f"This page is the script `examples/{script.name}`."]
    for mark, cell in zip(cells[::2], cells[1::2], strict=True):
        if mark:
            parts.append("\n".join(line.removeprefix("#").removeprefix(" ") for line in cell.strip().splitlines()))
        else:
            parts.append(f"```python\n{cell.strip()}\n```")
    return "\n\n".join(parts) + "\n"


def code_of(page: Path) -> str:
    """The code of a page, each block on the lines that it has in the page."""
    text = page.read_text(encoding="utf-8")
    lines = [""] * (text.count("\n") + 1)
    for block in BLOCK.finditer(text):
        first = text.count("\n", 0, block.start(1))
        for number, line in enumerate(block.group(1).splitlines()):
            lines[first + number] = line
    return "\n".join(lines)


def pictures_of(page: Path) -> list[str]:
    """The names of the pictures that a page shows and its code has to make."""
    found = PICTURE.findall(page.read_text(encoding="utf-8"))
    elsewhere = {folder for folder, _ in found} - {page.stem}
    if elsewhere:
        raise ValueError(f"{page.name}: expected pictures of made/{page.stem}/, got made/{elsewhere.pop()}/")
    return [name for _, name in found]


def run(page: Path, folder: Path) -> None:
    """Runs the code of a page in ``folder``.

    Raises:
        RuntimeError: the code fails, or a picture that the page shows is not there afterwards.
    """
    folder.mkdir(parents=True, exist_ok=True)
    program = f"exec(compile({code_of(page)!r}, {str(page)!r}, 'exec'), {{'__name__': '__main__'}})"
    environment = {**os.environ, "MPLBACKEND": "Agg", "PYTHONWARNINGS": "error::RuntimeWarning"}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{page.name}: its code fails\n{done.stdout}{done.stderr}")
    missing = [name for name in pictures_of(page) if not (folder / name).is_file()]
    if missing:
        raise RuntimeError(f"{page.name}: expected its code to leave {missing}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Runs the code of the documents' pages and leaves their pictures.")
    parser.add_argument("names", nargs="*", help="pages by name; all of them if none is named")
    parser.add_argument("--write", action="store_true", help="write the how-to pages from the scripts in examples/")
    arguments = parser.parse_args()
    if arguments.write:
        for page, text in written_pages().items():
            page.write_text(text, encoding="utf-8")
        return
    names = arguments.names
    known = {page.stem: page for page in pages()}
    for name in names or known:
        if name not in known:
            parser.error(f"no page {name!r}; there are {', '.join(known)}")
        run(known[name], DOCUMENTS / "made" / name)
        print(f"{name}: {', '.join(pictures_of(known[name])) or 'no picture'}", flush=True)


if __name__ == "__main__":
    main()

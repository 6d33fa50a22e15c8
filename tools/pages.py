"""Runs the code of the documents' pages, so that what they show is what the package does, and their pictures are made.

The blocks of a page that are marked ``python`` run one after the other in one process, in a folder of the page's own,
``docs/made/<page>/``. A page shows what its code has saved there. Blocks that are marked otherwise are not run.

    python tools/pages.py                # all of them
    python tools/pages.py occlude        # one of them
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

DOCUMENTS = Path(__file__).resolve().parent.parent / "docs"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PICTURE = re.compile(r"!\[[^\]]*\]\(\.\./made/([\w-]+)/([\w./-]+)\)")


def pages() -> list[Path]:
    """The pages whose code is run."""
    return [*sorted(DOCUMENTS.glob("tutorials/*.md")), DOCUMENTS / "contribute" / "kind.md"]


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
    names = parser.parse_args().names
    known = {page.stem: page for page in pages()}
    for name in names or known:
        if name not in known:
            parser.error(f"no page {name!r}; there are {', '.join(known)}")
        run(known[name], DOCUMENTS / "made" / name)
        print(f"{name}: {', '.join(pictures_of(known[name])) or 'no picture'}", flush=True)


if __name__ == "__main__":
    main()

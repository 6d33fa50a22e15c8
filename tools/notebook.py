"""Runs a notebook and keeps what it shows, small enough to be looked at in a repository.

python tools/notebook.py examples/my_network.ipynb   # needs nbclient and ipykernel: pip install 'zfkernels[dev]'
"""

from __future__ import annotations

import base64
import io
import sys
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from PIL import Image

COLORS = 256  # of a picture
SECONDS = 600  # that one cell may take
BYTES = 300_000  # of the whole notebook


def executed(path: Path) -> Any:
    """The notebook with what its cells give now; a cell that fails raises nbclient's ``CellExecutionError``."""
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(notebook, timeout=SECONDS, kernel_name="python3", record_timing=False)
    return client.execute()


def shrink(notebook: Any) -> None:
    """Pictures with few colours; nothing that differs from run to run without telling a reader anything."""
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            if "image/png" in data:
                picture = Image.open(io.BytesIO(base64.b64decode(data["image/png"]))).convert("RGB")
                file = io.BytesIO()
                picture.quantize(COLORS, Image.Quantize.FASTOCTREE).save(file, "PNG", optimize=True)
                data["image/png"] = base64.b64encode(file.getvalue()).decode()
    notebook.metadata = {name: notebook.metadata[name] for name in ("kernelspec",)}


def main() -> None:
    for path in map(Path, sys.argv[1:]):
        notebook = executed(path)
        shrink(notebook)
        text = nbformat.writes(notebook)
        if len(text) > BYTES:
            sys.exit(f"expected {path} of at most {BYTES} bytes, got {len(text)}")
        path.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

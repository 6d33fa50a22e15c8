"""The state and the results of a gallery in the making."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from zfkernels.output import workplace as places
from zfkernels.output.workplace import Workplace

NAME = "build_gallery"
# gallery.json comes last: where it is, the rest is too.
ENTRIES = ("maps", "images", "topk.parquet", "maps.parquet", "index.html", "gallery.json")


def gallery_place(out: Path) -> Workplace:
    """Where a process that is not the first one finds the state."""
    return Workplace(out, NAME, ENTRIES)


def workplace(out: Path) -> AbstractContextManager[Workplace]:
    """A place to work in; see ``zfkernels.output.workplace``."""
    return places.workplace(out, NAME, ENTRIES)

"""Tables of images and labels, of pandas or pyarrow."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from zfkernels.data.names import printable
from zfkernels.data.pictures import decode
from zfkernels.data.source import ImageSource, UnreadableImageError, reason_of

PATHS = ("path", "file", "filename", "filepath", "image_path", "image")
LABELS = ("label", "class", "target", "category", "label_name")


class TableSource(ImageSource):
    """A table with a column of paths and, perhaps, one of labels; an image's id is its row.

    Args:
        table: A ``pandas.DataFrame`` or a ``pyarrow.Table`` (or what ``column_names`` and ``to_pydict`` has). Paths are
            in the column "path", "file", "filename", "filepath", "image_path" or "image", labels in "label", "class",
            "target", "category" or "label_name". A path that is missing is an image that cannot be used.

    Raises:
        ValueError: No such column, no rows, or a path that stands twice in it.
    """

    def __init__(self, table: Any) -> None:
        columns = _columns(table)
        path = next((name for name in PATHS if name in columns), None)
        if path is None:
            raise ValueError(f"open_source: expected data a table with a column of {PATHS}, got one of {list(columns)}")
        self.paths = [os.fspath(value) if isinstance(value, os.PathLike) else str(value) for value in columns[path]]
        label = next((name for name in LABELS if name in columns and name != path), None)
        self.labels: Sequence[Any] | None = None if label is None else columns[label]
        self.keys = [printable(value) for value in self.paths]
        twice = next((key for key, count in Counter(self.keys).items() if count > 1), None)
        if twice is not None or not self.keys:
            got = "no rows" if twice is None else f"{twice} twice"
            raise ValueError(f"open_source: expected data a table of different paths, at least one, got {got}")
        self.name = f"a table of {len(self.keys):,} images"
        self.order = range(len(self.keys))

    def load(self, image_id: int) -> tuple[Image.Image, str | None]:
        try:
            data = Path(self.paths[image_id]).read_bytes()
            label = None if self.labels is None else self.labels[image_id]
            known = label is not None and label == label  # NaN, as pandas has it for nothing
            return decode(data, mode=self.mode, deep=self.deep), printable(str(label)) if known else None
        except UnreadableImageError:
            raise
        except Exception as error:  # of decoders on broken files
            raise UnreadableImageError(reason_of(error)) from error


def is_table(data: Any) -> bool:
    """Whether ``data`` is a table of pandas' or pyarrow's."""
    return hasattr(data, "columns") and (hasattr(data, "column_names") or hasattr(data, "iloc"))


def _columns(table: Any) -> dict[str, list[Any]]:
    if hasattr(table, "to_pydict"):
        return dict(table.to_pydict())
    return {str(name): table[name].tolist() for name in table.columns}

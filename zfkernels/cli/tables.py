"""Tables and records that the commands leave beside their figures."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from zfkernels.output import to_json


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A table; floating-point numbers with six digits."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([f"{cell:.6g}" if isinstance(cell, float) else cell for cell in row] for row in rows)


def write_json(path: Path, record: Mapping[str, Any]) -> None:
    """A record for programs."""
    path.write_text(to_json(record, indent=1), encoding="utf-8", errors="backslashreplace")

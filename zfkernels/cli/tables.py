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


def left_out(skipped: Iterable[tuple[str, str]]) -> list[str]:
    """Lines that say how many images were left out and why, with an example of each reason."""
    examples: dict[str, list[str]] = {}
    for key, reason in skipped:
        examples.setdefault(reason, []).append(key)
    count = sum(map(len, examples.values()))
    lines = [f"  {len(keys):,} × {reason}, such as {keys[0]}" for reason, keys in examples.items()]
    return [f"{count:,} left out:", *lines] if count else []


def write_json(path: Path, record: Mapping[str, Any]) -> None:
    """A record for programs."""
    path.write_text(to_json(record, indent=1), encoding="utf-8", errors="backslashreplace")

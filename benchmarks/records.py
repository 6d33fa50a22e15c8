"""CSV files of results, a row at a time: what is in the file stays."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import click


def append(path: Path, row: Mapping[str, object]) -> None:
    """Appends a row, behind a line with its columns where the file is new.

    Raises:
        click.UsageError: the file has other columns.
    """
    columns = list(row)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", newline="", encoding="utf-8") as file:
        file.seek(0)
        found = next(csv.reader(file), columns)
        if found != columns:
            raise click.UsageError(f"expected a file with the columns {','.join(columns)}, got {path} with others")
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        file.seek(0, 2)
        if file.tell() == 0:
            writer.writeheader()
        writer.writerow(row)

"""The lines of benchmarks/gpu.py: printed as each is known, and kept as JSON and CSV of all lines so far."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FIGURES = (
    "seconds", "host_s", "busy_s", "kernels", "first_s", "capture_s", "peak_bytes", "positions_s", "projections_s",
    "images_s", "batch", "error", "dense_error", "errors", "baseline", "speedup", "gbs", "tflops",
)  # fmt: skip
COLUMNS = ("name", "variant", "verdict", "text", *FIGURES)


class Journal:
    """What was said so far.

    Args:
        out: path without its ending of the files ``.json`` and ``.csv``, both whole after every line; None: no files.
        about: versions and the device, kept in the JSON.
    """

    def __init__(self, out: Path | None, about: Mapping[str, Any]) -> None:
        self.out, self.about = out, dict(about)
        self.rows: list[dict[str, Any]] = []
        if out is not None:
            out.parent.mkdir(parents=True, exist_ok=True)

    @property
    def failures(self) -> int:
        return sum(row["verdict"] == "FAILS" for row in self.rows)

    def say(self, name: str, variant: str, verdict: str, text: str = "", **figures: Any) -> None:
        """A line: ``verdict`` is right, FAILS, or a reason in words; ``figures`` are some of FIGURES."""
        print(f"{name:<44} {variant:<16} {verdict}{': ' if verdict == 'FAILS' else ' '}{text}".rstrip(), flush=True)
        self.rows.append({"name": name, "variant": variant, "verdict": verdict, "text": text, **figures})
        if self.out is not None:
            with _whole(self.out.with_name(f"{self.out.name}.json")) as part:
                part.write_text(json.dumps({"about": self.about, "lines": self.rows}, indent=1) + "\n")
            with _whole(self.out.with_name(f"{self.out.name}.csv")) as part, part.open("w", newline="") as file:
                writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
                writer.writeheader()
                writer.writerows(self.rows)


class _whole:
    """A path to write to, which takes the place of another one at the end."""

    def __init__(self, path: Path) -> None:
        self.path, self.part = path, path.with_name(f"{path.name}.partial")

    def __enter__(self) -> Path:
        return self.part

    def __exit__(self, kind: object, *rest: object) -> None:
        if kind is None:
            os.replace(self.part, self.path)

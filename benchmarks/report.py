"""Turns a benchmark run into a table, a chart and rows of the results file.

python benchmarks/report.py benchmark.json … --out FOLDER [--only TEXT …] [--record benchmarks/results/DEVICE.csv]
python benchmarks/report.py benchmarks/results/DEVICE.csv --out FOLDER   # of each group the latest run on record
"""

from __future__ import annotations

import csv
import json
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from chart import chart
from records import append

BASELINES = ("eager", "compile", "fill", "dense", "captum", "full-frame", "bare", "reference")
COLUMNS = (
    "date", "commit", "device", "threads", "torch", "zfkernels", "load", "gemm_gflops", "copy_gbs", "group",
    "contender", "p20_s", "p50_s", "p80_s", "baseline", "speedup", "gflops", "gbs", "floor_arithmetic_s",
    "floor_bytes_s",
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One contender of one group: what pytest-benchmark wrote of it."""

    group: str
    contender: str
    times: list[float]
    info: dict[str, Any]
    date: str

    @property
    def median(self) -> float:
        return statistics.median(self.times)

    @property
    def ours(self) -> bool:
        return not self.contender.startswith(BASELINES)

    @property
    def floor(self) -> float:
        return max(self.info["floor_arithmetic_s"], self.info["floor_bytes_s"])


def load(path: Path) -> list[Row]:
    """The rows of pytest-benchmark's JSON, or of a results file, there of each group the latest run."""
    if path.suffix == ".csv":
        return _recorded(path)
    try:
        data = json.loads(path.read_text())
        return [
            Row(entry["group"], entry["extra_info"]["contender"], entry["stats"]["data"], entry["extra_info"],
                data["datetime"])
            for entry in data["benchmarks"]
        ]  # fmt: skip
    except (ValueError, KeyError, TypeError) as error:
        raise click.ClickException(f"report: expected JSON of this suite in {path}, got {error!r}") from error


def _recorded(path: Path) -> list[Row]:
    texts = {"date", "commit", "device", "torch", "zfkernels", "group", "contender", "baseline"}
    with path.open(newline="") as file:
        lines = list(csv.DictReader(file))
    latest = {line["group"]: line["date"] for line in sorted(lines, key=lambda line: line["date"])}
    rows = []
    for line in lines:
        if line["date"] == latest[line["group"]]:
            info = {name: value if name in texts else float(value or 0) for name, value in line.items()}
            info["threads"] = int(info["threads"])
            rows.append(
                Row(line["group"], line["contender"], [info[f"p{n}_s"] for n in (20, 50, 80)], info, line["date"])
            )
    return rows


def winners(rows: Sequence[Row]) -> list[Row]:
    """Of each group and baseline the variant of this package that gains most over it."""
    ours: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if row.ours:
            ours.setdefault((row.group, row.info["baseline"]), []).append(row)
    return [max(group, key=lambda row: row.info["speedup"]) for group in ours.values()]


def table(rows: Sequence[Row]) -> str:
    """Markdown: a line for each group."""
    lines = [
        "| group | variant | time | fastest baseline | its time | speed-up | floor / time |",
        "|---|---|---|---|---|---|---|",
    ]
    by_name = {(row.group, row.contender): row for row in rows}
    for row in winners(rows):
        baseline = by_name[row.group, row.info["baseline"]]
        share = f"{row.floor / row.median:.0%}" if row.floor else ""
        lines.append(
            f"| {row.group.removesuffix('-float32')} | {row.contender} | {_seconds(row.median)} "
            f"| {baseline.contender} | {_seconds(baseline.median)} | {row.info['speedup']:.2f}x | {share} |"
        )
    return "\n".join([*lines, "", *machines(rows), ""])


def speedups(rows: Sequence[Row]) -> dict[str, float]:
    """Of each group what the best variant of this package gains over its baseline."""
    found: dict[str, float] = {}
    for row in winners(rows):
        found[row.group] = max(row.info["speedup"], found.get(row.group, 0.0))
    return found


def record(rows: Sequence[Row], path: Path) -> None:
    """Appends a line for each contender."""
    for row in rows:
        quantiles = statistics.quantiles(row.times, n=5, method="inclusive") if len(row.times) > 1 else row.times * 4
        figures = {name: _short(value) for name, value in row.info.items()}
        figures |= {"date": row.date, "group": row.group, "contender": row.contender}
        figures |= {"p20_s": _short(quantiles[0]), "p50_s": _short(row.median), "p80_s": _short(quantiles[3])}
        append(path, {name: figures.get(name, "") for name in COLUMNS})


def _short(value: Any) -> Any:
    return float(f"{value:.4g}") if isinstance(value, float) else value


def _seconds(value: float) -> str:
    return f"{value:.2f} s" if value >= 1 else f"{value * 1e3:.3g} ms" if value >= 1e-3 else f"{value * 1e6:.3g} µs"


def machines(rows: Sequence[Row]) -> list[str]:
    """A line for each machine and set of versions, with the commits that were run there and its rates meanwhile."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        info = row.info
        key = f"{info['device']}, {info['threads']} threads, torch {info['torch']}, zfkernels {info['zfkernels']}"
        found.setdefault(key, []).append(info)
    lines = []
    for key, infos in found.items():
        commits = ", ".join(dict.fromkeys(info["commit"] for info in infos))
        gemm, copy = (_range([info[rate] for info in infos]) for rate in ("gemm_gflops", "copy_gbs"))
        lines.append(f"{key} ({commits}); float32 matrix product {gemm} GFLOP/s, copy {copy} GB/s")
    return lines


def _range(values: Sequence[float]) -> str:
    low, high = f"{min(values):.0f}", f"{max(values):.0f}"
    return low if low == high else f"{low} to {high}"


@click.command()
@click.argument("results", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of table.md and chart.png.")
@click.option("--only", metavar="TEXT", multiple=True, help="Show groups with this in their names; may be repeated.")
@click.option("--record", "csv_path", type=click.Path(path_type=Path), help="CSV file to append the numbers to.")
def main(results: tuple[Path, ...], out: Path, only: tuple[str, ...], csv_path: Path | None) -> None:
    """Writes a table and a chart of RESULTS: JSON files of pytest-benchmark, or results files of --record."""
    rows = [row for path in results for row in load(path)]
    count = Counter((row.group, row.contender) for row in rows)
    for (group, contender), times in count.items():
        if times > 1:  # of two runs the times of one and the baseline of the other would be set beside each other
            raise click.ClickException(f"report: expected each benchmark once, got {group}, {contender} {times} times")
    shown = [row for row in rows if not only or any(text in row.group for text in only)]
    if not shown:
        raise click.ClickException(
            f"report: expected a benchmark {' or '.join(only)} in {', '.join(map(str, results))}"
        )
    out.mkdir(parents=True, exist_ok=True)
    (out / "table.md").write_text(table(shown))
    chart(speedups(shown), machines(shown), out / "chart.png")
    if csv_path is not None:
        record(rows, csv_path)
    click.echo(table(shown))
    click.echo(f"look at {out / 'chart.png'}")


if __name__ == "__main__":
    main()

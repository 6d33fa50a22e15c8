"""The tables of docs/background/networks.md, made of the results of benchmarks/zoo.py."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import median

Row = dict[str, str]
LATE = 0.9  # share of the multiply-adds behind which nothing is left to save
WORTH = 1.1  # possible saving from which one is asked for
NORMS = {"group_norm", "instance_norm", "linalg_vector_norm", "var_mean", "layer_norm", "native_group_norm"}
MEANS = {"mean", "adaptive_avg_pool2d", "avg_pool2d", "amax", "sum", "max", "adaptive_max_pool2d", "var", "std"}
ORDER = (
    "the classifier: all that is worth it runs on windows",
    "a mean or maximum over the frame: a gate on channels, a pyramid",
    "a norm over the frame",
    "attention, or another mixing of places",
    "the network is run as it is",
)


def write(page: Path, results: Path) -> None:
    """Puts the tables of ``results``, a CSV file, into ``page``."""
    text = page.read_text(encoding="utf-8")
    for name, table in tables(results).items():
        start, end = f"<!-- made by benchmarks/zoo.py: {name} -->\n", "<!-- end -->"
        before, found, rest = text.partition(start)
        if not found or end not in rest:
            raise ValueError(f"zoo: expected a block {name!r} in {page.name}, got none")
        text = before + start + table + rest[rest.index(end) :]
    page.write_text(text, encoding="utf-8")


def tables(results: Path) -> dict[str, str]:
    """The tables by name, in Markdown."""
    with open(results, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    run = [row for row in rows if not row["sweep"].startswith("not run")]
    return {
        "packages": _of_packages(rows),
        "ends": _of_ends(run),
        "before": _of_former_ends(run),
        "left": _left_out(rows, run),
    }


def saves(row: Row) -> bool:
    """Whether a network saves four fifths of what it can (of what is above 1, where that is less than a half)."""
    possible, executed = float(row["saving_possible"]), float(row["saving_executed"])
    return executed >= (0.8 * possible if possible >= 1.5 else 1 + 0.8 * (possible - 1)) - 0.005  # of two digits


def is_right(row: Row) -> bool:
    """Whether sweep and projection are the slow truth."""
    sweep = row["sweep"] == "right" or (row["sweep"].startswith("whole: ") and row["sweep"].endswith("; right"))
    return sweep and row["project"] in ("right", "no convolution of maps")


def is_worth_it(row: Row) -> bool:
    return bool(row["saving_possible"]) and float(row["saving_possible"]) >= WORTH


def ends_at(row: Row) -> str:
    """What windows end at, in words."""
    op, _, share = row["ends"].partition(" ")
    if not op:
        return ""  # a line of before this was noted
    if op == "nothing":
        return ORDER[4]
    if op == "never" or float(share) >= LATE:
        return ORDER[0]
    return ORDER[1] if op in MEANS else ORDER[2] if op in NORMS else ORDER[3]


def _of_packages(rows: Iterable[Row]) -> str:
    rows = list(rows)
    lines = []
    for name, group in (_grouped(rows, lambda row: row["package"]) | {"all": rows}).items():
        run = [row for row in group if not row["sweep"].startswith("not run")]
        lines.append([name, len(group), len(run), sum(map(is_right, run)), *_worth_and_saved(run)])
    header = ["package", "networks", "run", "numbers right", "can save 1.1x", "save four fifths of it"]
    return _table(header, lines)


def _of_ends(run: Iterable[Row]) -> str:
    lines = []
    for name, group in sorted(_grouped(run, ends_at).items(), key=lambda item: ORDER.index(item[0])):
        possible = [float(row["saving_possible"]) for row in group]
        reached = [float(row["saving_executed"]) for row in group]
        names = list(dict.fromkeys(row["network"] for row in group))
        spread = f"{median(possible):.2f}x ({min(possible):.2f} to {max(possible):.1f})"
        examples = ", ".join(names[:: max(1, len(names) // 5)][:5])
        lines.append([name, len(group), spread, f"{median(reached):.2f}x", examples])
    header = ["windows end at", "networks", "possible saving, median (range)", "reached, median", "for example"]
    return _table(header, lines)


def _of_former_ends(run: Iterable[Row]) -> str:
    lines = []
    for name, group in sorted(_grouped(run, lambda row: row["before"]).items(), key=lambda item: -len(item[1])):
        worth, saved = _worth_and_saved(group)
        lines.append([name, len(group), sum(map(is_right, group)), f"{saved} of {worth}"])
    return _table(["with symbolic tracing", "networks", "right now", "on windows, where they can save 1.1x"], lines)


def _grouped(rows: Iterable[Row], key: Callable[[Row], str]) -> dict[str, list[Row]]:
    """The rows that have a key, by it."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        if name := key(row):
            groups.setdefault(name, []).append(row)
    return groups


def _worth_and_saved(rows: Iterable[Row]) -> tuple[int, int]:
    """How many networks can save something, and how many of them do."""
    worth = [row for row in rows if is_worth_it(row)]
    return len(worth), sum(map(saves, worth))


def _left_out(rows: Iterable[Row], run: Iterable[Row]) -> str:
    """Networks of which less is saved than could be, wrong ones, and those that were not run."""
    lines: list[list[object]] = []
    for row in run:
        name = f"{row['package']} {row['network']}"
        if not is_right(row):
            lines.append([name, row["saving_possible"], row["saving_executed"], f"{row['sweep']}; {row['project']}"])
        elif is_worth_it(row) and not saves(row):
            lines.append([name, f"{row['saving_possible']}x", f"{row['saving_executed']}x", ends_at(row)])
    for row in rows:
        if row["sweep"].startswith("not run"):
            lines.append([f"{row['package']} {row['network']}", "", "", row["sweep"].split(". ")[0][:120]])
    return _table(["network", "possible", "reached", ""], lines)


def _table(header: Sequence[str], lines: Iterable[Sequence[object]]) -> str:
    rows = ["|" + "".join(f" {cell} |" if cell != "" else " |" for cell in row) for row in (header, *lines)]
    return "\n".join(["", rows[0], "|" + "---|" * len(header), *rows[1:], "", ""])

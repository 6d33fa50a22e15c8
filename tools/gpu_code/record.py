"""One kernel compiled for one GPU on one headline shape, and what the compiled code says about it."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zfkernels.output import replacing

MOST_TRAFFIC = 1.25  # of sectors and passes over banks, times the ideal


@dataclass(frozen=True)
class Record:
    """Generic over families of kernels (``triton``, ``cuda``); all that is counted is per thread block unless said.

    Attributes:
        kernel: name of the kernel's function.
        op: the op that it belongs to.
        family: ``"triton"`` or ``"cuda"``.
        arch: ``"sm_90"`` and so on, or ``"gfx942"``.
        dtype: of the maps.
        shape: name of the headline shape.
        registers: of a thread.
        spills: bytes of local memory of a thread.
        shared: bytes of shared memory.
        warps: of a block.
        occupancy: warps that one multiprocessor holds.
        mix: instructions of the whole kernel by class.
        hot_loop: instructions by class of the innermost loop with the most arithmetic, with ``instructions`` and
            ``stalls`` (cycles that the compiler's own scheduling leaves between them); empty where it is unrolled.
        wide_loads: global loads (and copies to shared memory) by width in bits.
        bytes_floor: each input read once and each output written once, of the whole launch.
        multiply_adds: that the task needs, of the whole launch.
        bound_us: a bound computed from data-sheet rates, not a time: max(multiply_adds / peak, bytes / bandwidth).
        estimate_us: an estimate, not a time, from the compiled loops: see ``gpu_code.estimate``; None unknown.
        note: what else there is to say.
        traffic: sectors of 32 bytes, or passes over the banks of shared memory, over the ideal, by array, where they
            were counted.
    """

    kernel: str
    op: str
    family: str
    arch: str
    dtype: str
    shape: str
    registers: int
    spills: int
    shared: int
    warps: int
    occupancy: int
    mix: dict[str, int]
    hot_loop: dict[str, int]
    wide_loads: dict[str, int]
    bytes_floor: int
    multiply_adds: int
    bound_us: float | None = None
    estimate_us: float | None = None
    note: str = ""
    traffic: dict[str, float] = field(default_factory=dict)

    @property
    def key(self) -> str:
        return f"{self.family}/{self.op}/{self.shape}/{self.dtype}/{self.arch}"

    def share(self, *classes: str) -> float:
        """Of the hot loop's instructions, those of some classes; 0 without a loop."""
        total = self.hot_loop.get("instructions", 0)
        return sum(self.hot_loop.get(name, 0) for name in classes) / total if total else 0.0


COLUMNS = {field.name: str(field.type) for field in dataclasses.fields(Record)}
MADE_WITH = "made_with"  # column after a record's own: names and versions of the compilers


def load(path: Path) -> dict[str, Record]:
    """The records of a file of budgets, by key.

    Raises:
        ValueError: The file holds something else.
    """
    return {key: record for key, (record, _) in _read(path).items()}


def versions(path: Path) -> dict[str, str]:
    """What the records of a file of budgets were made with; raises as :func:`load`."""
    return {name: version for _, made_with in _read(path).values() for name, version in made_with.items()}


def of_triton(path: Path, version: str) -> Path:
    """The file of budgets whose Triton records were made with this version: ``path``, or the one beside it.

    Raises:
        ValueError: Neither holds any; what another version compiles has other registers and instructions.
    """
    wanted, made = (".".join(known.split(".")[:2]) for known in (version, versions(path).get("triton", version)))
    if wanted == made:
        return path
    beside = path.with_name(f"{path.stem}-triton-{wanted}{path.suffix}")
    if not beside.is_file():
        raise ValueError(f"gpu_code: expected budgets of Triton {wanted} in {beside}, which --record makes, got none")
    return beside


def save(path: Path, records: list[Record], made_with: dict[str, str]) -> None:
    """Writes the records, a row each; those of other families, architectures and shapes in the file are kept.

    Args:
        path: CSV file.
        records: New ones, in place of those with the same key.
        made_with: Versions of the compilers, by name.
    """
    merged = (_read(path) if path.exists() else {}) | {record.key: (record, made_with) for record in records}
    with replacing(path) as partial, open(partial, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*COLUMNS, MADE_WITH], lineterminator="\n")
        writer.writeheader()
        for _, (record, made) in sorted(merged.items()):
            fields = {name: _text(value) for name, value in dataclasses.asdict(record).items()}
            writer.writerow({**fields, MADE_WITH: _text(made)})


def _read(path: Path) -> dict[str, tuple[Record, dict[str, str]]]:
    found = {}
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = csv.DictReader(file, strict=True)
            if rows.fieldnames != [*COLUMNS, MADE_WITH]:
                raise ValueError(f"the columns {rows.fieldnames}")
            for row in rows:
                made_with = {name: str(version) for name, version in _pairs(row.pop(MADE_WITH), str).items()}
                record = Record(**{name: _value(name, text) for name, text in row.items()})
                found[record.key] = (record, made_with)
    except (ValueError, TypeError, AttributeError, KeyError, csv.Error) as error:
        raise ValueError(f"gpu_code: expected CSV of records in {path}, got {error!r}") from error
    return found


def _text(value: Any) -> str:
    """A field as a cell: ``integer 382; compare 88`` for a mapping, nothing for None."""
    if isinstance(value, dict):
        return "; ".join(f"{name} {part}" for name, part in value.items())
    return "" if value is None else str(value)


def _pairs(text: str, kind: Callable[[str], Any]) -> dict[str, Any]:
    parts = (part.rpartition(" ") for part in text.split("; ") if part)
    return {name: kind(value) for name, _, value in parts}


_KINDS: dict[str, Callable[[str], Any]] = {
    "int": int,
    "float | None": lambda text: float(text) if text else None,
    "str": str,
}


def _value(name: str, text: str) -> Any:
    kind = COLUMNS[name]
    if kind.startswith("dict"):
        return _pairs(text, float if "float" in kind else int)
    return _KINDS[kind](text)


def regressions(record: Record, budget: Record) -> list[str]:
    """What is worse than recorded: one sentence for each."""
    found = []
    if record.spills > budget.spills:
        found.append(f"{record.key}: spills {record.spills} bytes, recorded {budget.spills or 'none'}")
    if record.occupancy < budget.occupancy:
        found.append(f"{record.key}: holds {record.occupancy} warps, recorded {budget.occupancy}")
    if budget.hot_loop.get("tensor") and not record.hot_loop.get("tensor"):
        found.append(f"{record.key}: has no tensor instruction in its hot loop any more")
    for kind in ("integer", "compare"):
        if record.share(kind) > budget.share(kind) + 0.02:
            shares = f"{record.share(kind):.0%}, recorded {budget.share(kind):.0%}"
            found.append(f"{record.key}: {kind} instructions are {shares} of the hot loop")
    if budget.wide_loads.get("128") and not record.wide_loads.get("128"):
        found.append(f"{record.key}: has no 128-bit load any more")
    if max(record.traffic.values(), default=0.0) > MOST_TRAFFIC:
        found.append(f"{record.key}: moves {max(record.traffic.values()):.2f}x the ideal, expected {MOST_TRAFFIC}x")
    return found

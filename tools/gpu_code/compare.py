"""Triton's and CUDA's kernels of one op by their static figures: which should be tried first where nobody has measured.

What decides is the estimate of :mod:`gpu_code.estimate`, in which instructions, stall cycles and occupancy
meet; it knows nothing of the caches.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from gpu_code.record import Record

LIMIT = 1.5  # figures that differ by less say nothing


@dataclass(frozen=True)
class Pair:
    """The two families' kernels on one shape, dtype and architecture."""

    triton: Record
    cuda: Record

    @property
    def estimates(self) -> float | None:
        """Triton's estimate over CUDA's: above one where CUDA's kernel promises more; None where one is unknown."""
        if not self.triton.estimate_us or not self.cuda.estimate_us:
            return None
        return self.triton.estimate_us / self.cuda.estimate_us

    @property
    def occupancies(self) -> float:
        """CUDA's warps on a multiprocessor over Triton's."""
        return self.cuda.occupancy / max(self.triton.occupancy, 1)


@dataclass(frozen=True)
class Verdict:
    """``prefer`` is "triton" or "cuda", None where the figures say nothing; ``ratio`` as :attr:`Pair.estimates`."""

    op: str
    prefer: str | None
    ratio: float
    pairs: int

    @property
    def order(self) -> tuple[str, ...]:
        """For the router, on a CUDA device."""
        return ("triton", "cuda", "reference") if self.prefer == "triton" else ("cuda", "triton", "reference")


def pairs(records: Iterable[Record]) -> list[Pair]:
    """What both families have records of."""
    by_key = {record.key: record for record in records}
    found = []
    for key, record in sorted(by_key.items()):
        other = by_key.get(key.replace("cuda/", "triton/", 1))
        if record.family == "cuda" and other is not None:
            found.append(Pair(other, record))
    return found


def verdicts(records: Iterable[Record]) -> dict[str, Verdict]:
    """One for each op with pairs: by the geometric mean of the ratios of their estimates."""
    ratios: dict[str, list[float]] = defaultdict(list)
    for pair in pairs(records):
        if pair.estimates is not None:
            ratios[pair.cuda.op].append(math.log(pair.estimates))
    found = {}
    for op, logarithms in ratios.items():
        mean = math.exp(math.fsum(logarithms) / len(logarithms))
        found[op] = Verdict(op, _better(mean), mean, len(logarithms))
    return found


def markdown(records: Iterable[Record]) -> list[str]:
    """The comparison as lines of a report; none without pairs."""
    listed = list(records)
    both = pairs(listed)
    if not both:
        return []
    lines = [
        "", "## Triton or CUDA", "",
        f"Where the estimates of one op differ by more than {LIMIT}x in the geometric mean, the router tries the better"
        " one first on a CUDA device (`zfkernels info` shows the order). No one has measured whether that is right.",
        "", "| op | tried first | CUDA's estimate over Triton's | shapes x architectures |", "|---|---|--:|--:|",
    ]  # fmt: skip
    for verdict in verdicts(listed).values():
        first = verdict.prefer or "cuda (no difference that says anything)"
        lines.append(f"| {verdict.op} | {first} | {1 / verdict.ratio:.2f} | {verdict.pairs} |")
    lines += ["", "| op | shape | dtype | arch | estimate us: Triton | CUDA | warps/SM: Triton | CUDA | beyond 1.5x |"]
    lines += ["|---|---|---|---|--:|--:|--:|--:|---|"]
    for pair in both:
        triton, cuda = pair.triton, pair.cuda
        figures = {"estimate": pair.estimates, "warps": pair.occupancies}
        beyond = [f"{name}: {side}" for name, ratio in figures.items() if (side := _better(ratio))]
        numbers = (f"{record.estimate_us:.1f}" if record.estimate_us else "" for record in (triton, cuda))
        warps = (str(triton.occupancy), str(cuda.occupancy))
        cells = (cuda.op, cuda.shape, cuda.dtype, cuda.arch, *numbers, *warps, ", ".join(beyond))
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _better(ratio: float | None) -> str | None:
    """Which family, where the figures differ by more than the limit."""
    if ratio is None or 1 / LIMIT <= ratio <= LIMIT:
        return None
    return "cuda" if ratio > 1 else "triton"

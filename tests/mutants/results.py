"""What became of the slips: the file of results, the words at the end of a run, and the page of the documents."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from slips import Kind, kinds

SHARE = 0.95  # of the slips, at least, that are caught
TITLES = {"cpp": "C++ kernels", "cuda": "CUDA kernels", "triton": "Triton kernels", "python": "Python"}
HEAD = """# The slips, and the tests that see them

You get: each slip that `make mutants` plants, and the first test that failed with it in the tree.

[What the checks of the kernels see](checks.md) says how slips are planted. This page is what
`make mutants ARGS="--table docs/contribute/slips.md"` wrote.
"""
TAIL = """
## Next

[What the checks of the kernels see](checks.md): lines that are reached, and where memory is checked.
"""
LONGEST = 120  # characters of a test's name


@dataclass(frozen=True)
class Result:
    """What became of a slip: ``caught`` by a test (or how it died), or not."""

    kind: str
    name: str
    file: str
    caught: bool
    by: str
    seconds: float


def read(path: Path) -> list[Result]:
    return [Result(**json.loads(line)) for line in path.read_text().splitlines()] if path.exists() else []


def explained(kind: Kind) -> dict[str, str]:
    """Why no test can see a slip, by its name."""
    return {slip.name: slip.survives for slip in kind.slips if slip.survives}


def report(results: Iterable[Result]) -> int:
    """Says how many were caught, and which were not; the exit status."""
    results = list(results)
    why = {(kind.name, name): reason for kind in kinds() for name, reason in explained(kind).items()}
    survivors = [found for found in results if not found.caught]
    caught = len(results) - len(survivors)
    print(f"mutants: {caught} of {len(results)} caught in {sum(r.seconds for r in results) / 60:.1f} minutes")
    for found in survivors:
        print(f"  survived: {found.kind}: {found.name}: {why.get((found.kind, found.name), 'not explained')}")
    unexplained = [found for found in survivors if (found.kind, found.name) not in why]
    return 0 if caught >= SHARE * len(results) and not unexplained else 1


def page(results: Iterable[Result]) -> str:
    """The results as a page of Markdown, a table for each kind, in the order of the tables of slips."""
    known = {(found.kind, found.name): found for found in results}
    parts = [HEAD]
    for kind in kinds():
        found = [known[kind.name, slip.name] for slip in kind.slips if (kind.name, slip.name) in known]
        parts += [f"\n## {TITLES[kind.name]}\n", "| slip | in | seen by |", "|---|---|---|"]
        why = explained(kind)
        parts += [f"| {one.name} | `{_short(one.file)}` | {_seen(one, why)} |" for one in found]
    return "\n".join(parts) + "\n" + TAIL


def _seen(found: Result, why: dict[str, str]) -> str:
    if not found.caught:
        return f"**survives**: {why.get(found.name) or 'not explained'}"
    file, _, test = found.by.partition("::")
    if not test:
        return f"the run: {found.by}"  # a crash, or a run that never ends
    return f"`{test if len(test) <= LONGEST else test[: LONGEST - 1] + '…'}` of `{_short(file)}`"


def _short(file: str) -> str:
    """A file with its folder."""
    return "/".join(Path(file).parts[-2:])

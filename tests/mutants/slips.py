"""Small slips, one at a time, that a check of this tree has to see: what they are and where they stand."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


@dataclass(frozen=True)
class Slip:
    """One slip: ``old`` stands once in ``file`` and becomes ``new``.

    Attributes:
        name: what is wrong, in few words.
        file: of the repository.
        old: text that stands there once.
        new: the slip.
        op: of the kernels, the source file that is built, ``<op>_kernel``; of Triton the op.
        pick: what pytest's ``-k`` picks of the tests.
        tests: the file of tests, or a test; "": that of the kind.
        way: how the emulator is built.
        survives: why no test can see it; "": one has to.
    """

    name: str
    file: str
    old: str
    new: str
    op: str = ""
    pick: str = ""
    tests: str = ""
    way: str = "plain"
    survives: str = ""


@dataclass(frozen=True)
class Kind:
    """Where slips are planted, and the tests that look at them unless a slip names others."""

    name: str
    slips: tuple[Slip, ...]
    tests: str = ""
    interpreted: bool = False  # TRITON_INTERPRET=1


def kinds() -> list[Kind]:
    """All of them."""
    import in_cpp
    import in_cuda
    import in_python
    import in_triton

    return [
        Kind("cpp", in_cpp.SLIPS, "tests/ops/test_variants.py"),
        Kind("cuda", in_cuda.SLIPS, "tests/simt/test_emulated.py"),
        Kind("triton", in_triton.SLIPS, "tests/interpreted/test_kernels.py", interpreted=True),
        Kind("python", in_python.SLIPS),
    ]


def problem(slip: Slip) -> str | None:
    """Why the slip cannot be planted as the table has it, or None."""
    path = REPOSITORY / slip.file
    if not path.is_file():
        return f"{slip.name}: expected a file {slip.file}, there is none"
    count = path.read_text().count(slip.old)
    if count != 1:
        return f"{slip.name}: expected its old text once in {slip.file}, found it {count} times"
    return f"{slip.name}: expected new text that differs" if slip.old == slip.new else None

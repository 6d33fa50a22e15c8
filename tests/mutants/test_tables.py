"""The tables of slips fit the tree: each old text stands where the table has it, names are told apart."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import pytest
import run
from slips import REPOSITORY, Slip, kinds, problem

ALL = [pytest.param(slip, id=f"{kind.name}-{slip.name.replace(' ', '_')}") for kind in kinds() for slip in kind.slips]
HERE = Path(__file__).parent


@pytest.mark.parametrize("slip", ALL)
def test_a_slip_fits_the_tree(slip: Slip) -> None:
    assert problem(slip) is None


def test_a_slip_whose_text_is_gone_is_said() -> None:
    slip = kinds()[0].slips[0]
    gone = dataclasses.replace(slip, old="no such text")
    assert problem(gone) == f"{slip.name}: expected its old text once in {slip.file}, found it 0 times"
    assert problem(dataclasses.replace(slip, file="csrc/none.h")) is not None
    assert problem(dataclasses.replace(slip, new=slip.old)) is not None


def test_the_short_form_names_slips_of_all_kinds() -> None:
    found = [{slip.name for slip in kind.slips} & set(run.SHORT) for kind in kinds()]
    assert all(found)
    assert sum(map(len, found)) == len(run.SHORT)


@pytest.mark.parametrize("arguments", [["--kind", "nosuch"], ["--only", "no slip has this name"]])
def test_a_run_that_picks_nothing_is_refused(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "WORK", tmp_path)
    with pytest.raises(SystemExit) as caught:
        run.main(arguments)
    assert caught.value.code == 2


def test_the_tables_are_whole() -> None:
    assert sum(len(kind.slips) for kind in kinds()) >= 50
    for kind in kinds():
        names = [slip.name for slip in kind.slips]
        assert len(set(names)) == len(names)
        for slip in kind.slips:
            assert (REPOSITORY / (slip.tests or kind.tests)).is_file()
            if kind.name in ("cpp", "cuda"):
                assert list((REPOSITORY / "csrc").rglob(f"{slip.op}_kernel.c*"))


def test_the_page_lists_all_slips_in_their_order() -> None:
    """After a new slip: make mutants ARGS="--resume --table docs/contribute/slips.md"."""
    tables = (REPOSITORY / "docs" / "contribute" / "slips.md").read_text().split("\n## ")[1:-1]
    expected = [[slip.name for slip in kind.slips] for kind in kinds()]
    assert [re.findall(r"^\| ([^|]+) \| `", table, re.MULTILINE) for table in tables] == expected


def test_the_run_sees_what_no_test_looks_at(tmp_path: Path) -> None:
    """One slip whose tests look elsewhere survives, and one whose tests look there is caught."""
    script = f"""
import sys
sys.path.insert(0, {str(HERE)!r})
import dataclasses, copying, run, slips
copying.WORK = run.WORK = copying.Path({str(tmp_path)!r})
kind = next(kind for kind in slips.kinds() if kind.name == "python")
slip = next(slip for slip in kind.slips if slip.tests == "tests/test_topk.py")
blind = dataclasses.replace(slip, pick="bad_input")
run.kinds = lambda: [dataclasses.replace(kind, slips=(slip, dataclasses.replace(blind, name="blind")))]
sys.exit(run.main([]))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "mutants: 1 of 2 caught" in done.stdout
    assert "survived: python: blind: not explained" in done.stdout

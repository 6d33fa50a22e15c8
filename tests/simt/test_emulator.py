"""The emulator itself: each operation against loops, and each planted bug caught by name."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import compilation
import pytest

WAYS = ("plain", "sanitized", "recorded")
# What says so, by bug and way. An overrun by one of a plain build may hit anything: it is the sanitizer's to find.
FOUND = {
    "missing_barrier": {"plain": "wrong numbers", "recorded": "race: read after write of shared tile at planted.cuh:"},
    "missing_async_wait": {
        "plain": "missing async wait: 1 asynchronous copies were never waited for by thread",
        "recorded": "missing async wait: use of shared tile at planted.cuh:",
    },
    "divergent_barrier": dict.fromkeys(WAYS, "divergent barrier: threads of one block wait at"),
    "early_exit": dict.fromkeys(WAYS, "divergent barrier: 1 of 128 threads ended without coming to"),
    "deadlock": dict.fromkeys(WAYS, "deadlock: some threads wait at a barrier, others for their warp at a shuffle"),
    "shared_overrun": {"sanitized": "heap-buffer-overflow"},
    "global_overrun": {"sanitized": "heap-buffer-overflow"},
    "plain_add": {"recorded": "race: write after write of global total at planted.cuh:"},
    "off_by_one_origin": dict.fromkeys(WAYS, "wrong numbers"),
    "divergent_warp": dict.fromkeys(WAYS, "divergent warp: lanes of one warp call"),
    "misaligned_copy": dict.fromkeys(WAYS, "cp.async: expected addresses aligned to 16 bytes"),
    "too_much_shared": dict.fromkeys(WAYS, "shared memory: 512 bytes were asked for at launch, 1024 are taken"),
    "write_after_two_reads": {"recorded": "race: write after read of global numbers at planted.cuh:"},
    "other_device": dict.fromkeys(WAYS, "launch: the tensors' device is not the current one"),
    "default_stream": dict.fromkeys(WAYS, "launch: on another stream than the current one of the tensors' device"),
}


@pytest.fixture(scope="module")
def program() -> Callable[..., Path]:
    if compilation.compiler() is None:
        pytest.skip("no C++ compiler was found")
    return compilation.program


def output(path: Path, *arguments: str) -> str:
    environment = os.environ | {"ASAN_OPTIONS": "detect_leaks=0"}
    result = subprocess.run([path, *arguments], capture_output=True, text=True, env=environment)
    return result.stdout + result.stderr


@pytest.mark.parametrize("way", WAYS)
def test_operations(program: Callable[..., Path], way: str) -> None:
    lines = output(program("operations", way)).splitlines()
    assert len(lines) == 13, lines
    assert [line for line in lines if not line.endswith(": right")] == []


def test_operations_on_the_portable_fibers(program: Callable[..., Path]) -> None:
    lines = output(program("operations", "plain", "-DSIMT_UCONTEXT")).splitlines()
    assert len(lines) == 13, lines
    assert [line for line in lines if not line.endswith(": right")] == []


def test_the_table_of_bugs_is_whole(program: Callable[..., Path]) -> None:
    assert set(output(program("planted", "plain")).split()) == {"none", *FOUND}


def test_the_documented_table_is_this_one() -> None:
    lines = (Path(__file__).parent / "README.md").read_text().splitlines()
    rows = [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in lines if line.startswith("| `")]
    table = {name: cells for name, *cells in rows if name in FOUND}
    for bug, ways in FOUND.items():
        said = [ways.get(way, "") for way in WAYS]
        assert table.pop(bug) == [said[0], *("the same" if text and text == said[0] else text for text in said[1:])]
    assert table == {}


@pytest.mark.parametrize("seed", ["1", "2", "3"])
@pytest.mark.parametrize("way", WAYS)
def test_the_right_kernel_has_no_report(program: Callable[..., Path], way: str, seed: str) -> None:
    first, *rest = output(program("planted", way), "none", seed).splitlines()
    assert first == "right"
    if way == "recorded":
        assert json.loads(rest[0])["faults"] == {}
    else:
        assert rest == []


@pytest.mark.parametrize(("bug", "way"), [(bug, way) for bug, ways in FOUND.items() for way in ways])
def test_a_planted_bug_is_found_by_name(program: Callable[..., Path], bug: str, way: str) -> None:
    assert FOUND[bug][way] in output(program("planted", way), bug)


def test_traffic_is_counted(program: Callable[..., Path]) -> None:
    """The kernel of planted.cuh: 2 blocks of 4 warps read and write 128 bytes each; the numbers begin off a sector."""
    report = json.loads(output(program("planted", "recorded"), "none").splitlines()[-1])
    lines = {(line["array"], line["access"]): line for line in report["lines"]}
    assert lines["sums", "store"]["instructions"] == 8
    assert lines["sums", "store"]["ideal"] == 8 * 4
    assert lines["numbers", "load"]["ideal"] == 8 * 4
    assert lines["numbers", "load"]["units"] >= 8 * 4
    assert lines["tile", "store"]["units"] == 8  # no bank conflicts
    assert report["blocks"] == 2
    assert report["cold_written"] >= 256 * 4

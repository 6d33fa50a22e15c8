"""The smaller samples again, under AddressSanitizer and UBSan, and under the race and traffic runtime: no report."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import compilation
import pytest

HERE = Path(__file__).parent


pytestmark = pytest.mark.skipif(
    os.environ.get("SIMT_BUILDS") != "1", reason="two more builds and runs, minutes long: `make emulate` runs them"
)


@pytest.fixture(autouse=True)
def _needs_a_compiler() -> None:
    if compilation.compiler() is None:
        pytest.skip("no C++ compiler was found")


def pytest_in_another_process(way: str, test: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(HERE / test)],
        env={**os.environ, "SIMT_WAY": way, **environment},
        cwd=compilation.REPOSITORY,
        capture_output=True,
        text=True,
    )


def sanitizer_libraries() -> str:
    found = []
    for name in ("libasan.so", "libubsan.so"):
        command = [*compilation.COMPILER.split(), f"-print-file-name={name}"]
        found.append(subprocess.run(command, capture_output=True, text=True).stdout.strip())
    if not all(os.path.isabs(path) for path in found):
        pytest.skip(f"{compilation.COMPILER} has no sanitizers")
    return " ".join(found)


def test_the_smaller_samples_stay_in_bounds() -> None:
    result = pytest_in_another_process(
        "sanitized",
        "test_emulated.py",
        LD_PRELOAD=sanitizer_libraries(),
        ASAN_OPTIONS="detect_leaks=0",
        UBSAN_OPTIONS="print_stacktrace=1",
    )
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-4000:]
    assert " passed" in result.stdout


@pytest.mark.skipif(shutil.which("addr2line") is None, reason="addr2line (binutils), which names lines, was not found")
def test_the_smaller_samples_have_no_races() -> None:
    result = pytest_in_another_process("recorded", "test_emulated.py")
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-4000:]
    assert " passed" in result.stdout


@pytest.mark.skipif(shutil.which("addr2line") is None, reason="addr2line (binutils), which names lines, was not found")
@pytest.mark.parametrize("test", ["test_traffic.py", "test_launches.py"])
def test_traffic_is_within_its_budgets_and_as_recorded(test: str) -> None:
    result = pytest_in_another_process("recorded", test)
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-4000:]
    assert " passed" in result.stdout

"""The lines of the kernels that no sample reaches: ``make coverage``.

C++ and CUDA kernels are built to count (gcc's ``--coverage``) and run over the samples, the former in each variant of
the processor, the latter in the emulator; Triton kernels run in the interpreter, traced. Nothing but refusals may be
left.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from lines import REPOSITORY, Lines, by_gcov, by_trace, merged, unreached

WORK = REPOSITORY / "build" / "covered"
CSRC = REPOSITORY / "csrc"
# Lines that no test on this machine can reach, by their text, and why.
EXPLAINED: dict[str, str] = {}


def pytest(*arguments: str, folder: Path = REPOSITORY, **environment: str) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *arguments]
    subprocess.run(command, cwd=folder, env={**os.environ, **environment}, check=True)


def of_cpp() -> Lines:
    """In a copy of the package whose ``_C`` counts."""
    shutil.rmtree(WORK / "cpp", ignore_errors=True)
    switches = {"ZFKERNELS_BUILD_CPU": "1", "ZFKERNELS_BUILD_CUDA": "0"}
    flags = {"CFLAGS": "--coverage -O1 -fprofile-abs-path -fprofile-update=atomic", "LDFLAGS": "--coverage"}
    built = ["build", "--build-base", str(WORK / "cpp" / "work"), "--build-lib", str(WORK / "cpp" / "lib")]
    subprocess.run(
        [sys.executable, "setup.py", "-q", *built], cwd=REPOSITORY, env={**os.environ, **switches, **flags}, check=True
    )
    for variant in ("", "avx2", "baseline"):
        chosen = {"ZFKERNELS_CPU_VARIANT": variant} if variant else {}
        pytest("-k", "cpp", str(REPOSITORY / "tests" / "ops"), folder=WORK / "cpp" / "lib", **chosen)
    return by_gcov(WORK / "cpp", CSRC / "cpu", CSRC / "common")


def of_cuda() -> Lines:
    for old in (REPOSITORY / "build" / "simt").rglob("*.gcda"):
        old.unlink()
    pytest("tests/simt/test_emulated.py", "tests/simt/test_devices.py", SIMT_WAY="covered")
    return by_gcov(REPOSITORY / "build" / "simt", CSRC / "cuda", CSRC / "common")


def of_triton() -> Lines:
    WORK.mkdir(parents=True, exist_ok=True)
    report = WORK / "triton.json"
    here = str(Path(__file__).parent)
    pytest("-p", "traced", "tests/interpreted", TRITON_INTERPRET="1", TRACED=str(report), PYTHONPATH=here)
    return by_trace(report)


KINDS = {"cpp": of_cpp, "cuda": of_cuda, "triton": of_triton}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", action="append", choices=KINDS, help="several: all of these")
    chosen = parser.parse_args(argv).kind or list(KINDS)
    lines = merged(KINDS[kind]() for kind in chosen)
    left = unreached(lines, EXPLAINED)
    count = sum(map(len, lines.values()))
    print(f"coverage: {sum(sum(known.values()) for known in lines.values())} of {count} lines were reached")
    for path, numbers in left.items():
        text = path.read_text().splitlines()
        for number in numbers:
            print(f"{path.relative_to(REPOSITORY)}:{number}: {text[number - 1].strip()}")
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())

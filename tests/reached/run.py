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
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from explained import EXPLAINED
from lines import REPOSITORY, Lines, by_gcov, by_trace, merged, unreached

sys.path.append(str(REPOSITORY / "tests"))
from compiled import LIBRARY, compile_source, link_library

WORK = REPOSITORY / "build" / "covered"
CSRC = REPOSITORY / "csrc"


def pytest(*arguments: str, folder: Path = REPOSITORY, **environment: str) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *arguments]
    subprocess.run(command, cwd=folder, env={**os.environ, **environment}, check=True)


def run_variant(variant: str) -> None:
    """Runs the C++ kernels of one variant of the processor, by its name, or of the widest that it has ("")."""
    chosen = {"ZFKERNELS_CPU_VARIANT": variant} if variant else {}
    pytest("-k", "cpp", str(REPOSITORY / "tests" / "ops"), folder=WORK / "cpp", **chosen)


def of_cpp() -> Lines:
    """In a copy of the package whose ``_C`` counts."""
    shutil.rmtree(WORK / "cpp", ignore_errors=True)
    package = WORK / "cpp" / "zfkernels"
    shutil.copytree(REPOSITORY / "zfkernels", package, ignore=shutil.ignore_patterns("__pycache__", "_C*.so"))
    counts = ["--coverage", "-fprofile-abs-path", "-fprofile-update=atomic"]

    def counting(source: Path) -> Path:
        return compile_source(source, WORK / "cpp" / f"{source.stem}.o", *counts)

    sources = [CSRC / "library.cpp", *(CSRC / "cpu").glob("*.cpp")]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        link_library(pool.map(counting, sources), package / LIBRARY, "--coverage")
        list(pool.map(run_variant, ("", "avx2", "baseline")))
    return by_gcov(WORK / "cpp", CSRC / "cpu", CSRC / "common")


def of_cuda() -> Lines:
    for old in (REPOSITORY / "build" / "simt").rglob("*.gcda"):
        old.unlink()
    pytest("tests/simt/test_devices.py", SIMT_WAY="covered")  # builds
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        samples = ("float32", "not float32")
        list(pool.map(lambda pick: pytest("tests/simt/test_emulated.py", "-k", pick, SIMT_WAY="covered"), samples))
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

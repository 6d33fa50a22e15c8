"""Installs a wheel into fresh environments, a row of ROWS each, and runs checks there without a compiler.

    python tools/versions.py dist/zfkernels-*.whl                      # every row; prints a table
    python tools/versions.py dist/zfkernels-*.whl --only floor         # rows by name
    python tools/versions.py dist/zfkernels-*.whl --only floor --check import --check sweep --keep

An environment holds the wheel, the torch of its row and what these ask for: several GB, which is removed after the
row. uv makes it where uv is on the PATH, else venv and pip. Rows and checks are tables, to be extended.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Row:
    """An environment: a Python, a torch, and packages that replace those torch asks for.

    ``forced`` is installed last and without its dependencies, so that it may contradict torch's pins (another Triton).
    """

    name: str
    python: str
    torch: str
    forced: tuple[str, ...] = ()
    checks: tuple[str, ...] = ("import", "ops", "sweep", "graphs", "triton", "interpreted")


@dataclass(frozen=True)
class Check:
    """A command of an environment's Python; ``{tests}`` stands for the folder of the tests.

    It works where it exits with 0 and its output has ``says``: tests that all skip do not pass.
    """

    arguments: tuple[str, ...]
    says: str
    environment: dict[str, str] = field(default_factory=dict)
    needs: tuple[str, ...] = ()


IMPORT = """
import torch, zfkernels.ops as ops
reasons = {op: why for op, variant, why in ops.availability() if variant == "cpp"}
assert reasons and not any(reasons.values()), reasons
print("torch", torch.__version__, "|", ops.build_info().replace("\\n", "; "))
"""

# Counts the C++ kernels' calls, so that a sweep on references would not pass; float64 against the whole network.
SWEEP = """
import torch, zfkernels as zf
from zfkernels.models import get_model
model = get_model("zfnet64").double()
image = torch.rand(1, 3, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
with zf.use_backend("cpp"):
    sweep = zf.occlusion_sweep(model, image, window=16, stride=16, fill=0.5)
hidden = image.clone()
hidden[..., 16:32, 32:48] = 0.5
with torch.no_grad():
    expected = model(hidden)[0]
error = (sweep.outputs[0, 1, 2] - expected).abs().max().item()
assert error < 1e-10, error
print("largest difference to the whole network:", error)
"""

PYTEST = ("-m", "pytest", "-q", "-p", "no:cacheprovider")
CAPTURE = ("{tests}/test_triton_capturable.py", "{tests}/test_projections_capturable.py")
CHECKS = {
    "import": Check(("-c", IMPORT), "torch"),
    "ops": Check((*PYTEST, "-k", "cpp", "{tests}/ops"), "passed", needs=("pytest",)),
    "sweep": Check(("-c", SWEEP), "difference"),
    "graphs": Check((*PYTEST, "{tests}/ops/test_registration.py", *CAPTURE), "passed", needs=("pytest",)),
    "triton": Check(
        (*PYTEST, "-k", "small or worse", "{tests}/test_triton_compiled.py"), "passed", needs=("pytest", "click")
    ),
    "interpreted": Check(
        (*PYTEST, "-k", "contiguous or launch", "{tests}/interpreted"),
        "passed",
        {"TRITON_INTERPRET": "1"},
        needs=("pytest", "click"),
    ),
}

ROWS = (
    Row("floor", "3.10", "2.10.0"),
    Row("2.11", "3.12", "2.11.0"),
    Row("2.14", "3.11", "2.14.1"),
    Row("newest", "3.13", "2.15.0"),
    Row("triton 3.7", "3.11", "2.14.1", ("triton==3.7.0",), ("triton", "interpreted")),
)


def interpreter(version: str) -> Path | None:
    """A Python of this version: this one, one on the PATH, or one of pyenv."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = [Path(sys.executable), *sorted(pyenv.glob(f"{version}.*/bin/python"), reverse=True)]
    found += [Path(path) for path in [shutil.which(f"python{version}")] if path]
    ask = "import sys; print('%d.%d%s' % (*sys.version_info[:2], getattr(sys, 'abiflags', '')))"
    for path in found:
        answer = subprocess.run([path, "-c", ask], capture_output=True, text=True)
        if answer.returncode == 0 and answer.stdout.strip() == version:
            return path
    return None


def make(folder: Path, row: Row, wheel: Path, needs: Sequence[str]) -> Path:
    """The Python of a new environment with the wheel and the row's torch."""
    python, uv = interpreter(row.python), shutil.which("uv")
    subprocess.run([uv, "venv", "-q", "-p", python, folder] if uv else [python, "-m", "venv", folder], check=True)
    inside = folder / "bin" / "python"
    install = [uv, "pip", "install", "-q", "-p", inside] if uv else [inside, "-m", "pip", "install", "-q"]
    subprocess.run([*install, wheel, f"torch=={row.torch}", *needs], check=True)
    if row.forced:
        subprocess.run([*install, "--no-deps", *row.forced], check=True)
    return inside


def run(python: Path, check: Check, folder: Path) -> str:
    """What a check came to, in words: ``works`` or the last line of its output."""
    kept = {name: value for name, value in os.environ.items() if not re.match("PYTHON|ZFKERNELS_|CXX$|CC$", name)}
    environment = {**kept, "PATH": str(python.parent), "VIRTUAL_ENV": str(python.parent.parent), **check.environment}
    arguments = [argument.format(tests=REPOSITORY / "tests") if "{tests}" in argument else argument
                 for argument in check.arguments]  # fmt: skip
    result = subprocess.run([python, *arguments], cwd=folder, env=environment, capture_output=True, text=True)
    output = (result.stdout + result.stderr).strip()
    last = output.splitlines()[-1] if output else ""
    print(f"    {last}", flush=True)
    if result.returncode == 0 and check.says in output:
        return "works"
    print(output, file=sys.stderr)
    return f"fails: {last}"


def try_row(row: Row, wheel: Path, names: Sequence[str], keep: bool) -> Iterator[tuple[str, str]]:
    """``(check, outcome)`` of a row, the installation first."""
    if interpreter(row.python) is None:
        yield "install", f"not to be had here: no Python {row.python}"
        return
    folder = Path(tempfile.mkdtemp(prefix="zfkernels-"))
    try:
        needs = [package for name in names for package in CHECKS[name].needs]
        start = time.perf_counter()
        try:
            python = make(folder / "env", row, wheel, needs)
        except subprocess.CalledProcessError as error:
            yield "install", f"fails: {error}"
            return
        yield "install", f"{time.perf_counter() - start:.0f} s"
        for name in names:
            yield name, run(python, CHECKS[name], folder)
    finally:
        if keep:
            print(f"    kept: {folder}")
        else:
            shutil.rmtree(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--only", action="append", choices=[row.name for row in ROWS], help="a row; may be repeated")
    parser.add_argument("--check", action="append", choices=CHECKS, help="instead of the row's; may be repeated")
    parser.add_argument("--all-here", action="store_true", help="a row whose Python is not on this machine is an error")
    parser.add_argument("--keep", action="store_true", help="leave the environments where they are")
    options = parser.parse_args()
    outcomes = {}
    for row in ROWS:
        if options.only and row.name not in options.only:
            continue
        print(f"{row.name}: Python {row.python}, torch {row.torch}, {', '.join(row.forced) or 'nothing forced'}")
        outcomes[row] = dict(try_row(row, options.wheel.resolve(), options.check or row.checks, options.keep))
    print("\n| row | Python | torch | forced | " + " | ".join(columns := list(dict.fromkeys(
        ["install", *(check for outcome in outcomes.values() for check in outcome)]))) + " |")  # fmt: skip
    print("|---" * (4 + len(columns)) + "|")
    for row, outcome in outcomes.items():
        cells = [row.name, row.python, row.torch, ", ".join(row.forced), *(outcome.get(name, "") for name in columns)]
        print("| " + " | ".join(cells) + " |")
    bad = ("fails", "not to be had") if options.all_here else ("fails",)
    if any(text.startswith(bad) for outcome in outcomes.values() for text in outcome.values()):
        sys.exit(1)


if __name__ == "__main__":
    main()

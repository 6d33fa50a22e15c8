"""Runs the benchmark suite: ``python tools/bench.py --help``."""

from __future__ import annotations

from pathlib import Path

import click

from zfkernels.cli import options
from zfkernels.cli.sentences import OneSentence

SUITE = Path(__file__).parent.parent / "benchmarks"
FILES = ("benchmark.json", "table.md", "chart.png")


@click.command(cls=OneSentence, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--only", metavar="EXPRESSION", help="Benchmarks whose names match, as pytest's -k has it.")
@click.option("--out", type=options.Folder(), default=Path("bench_out"), help="Folder of JSON, table and chart.")
@click.option("--record", type=click.Path(path_type=Path), help="CSV file to append the numbers to.")
def bench(only: str | None, out: Path, record: Path | None) -> None:
    """Times ops and methods against PyTorch and Captum, each checked before it is timed.

    Writes benchmark.json, table.md and chart.png to --out.
    """
    import subprocess
    import sys

    from zfkernels._extras import require

    require("pytest_benchmark", "bench")
    import pytest

    from zfkernels.output import staged

    with staged(out, FILES, "bench") as folder:
        results = folder / FILES[0]
        selection = ["-k", only] if only else []
        run = [sys.executable, "-m", "pytest", str(SUITE), "-q", "--benchmark-json", str(results), *selection]
        code = subprocess.run(run).returncode
        if code == pytest.ExitCode.NO_TESTS_COLLECTED:
            raise ValueError(f"bench: expected --only to pick a benchmark, got {only!r}")
        if code != 0:
            raise RuntimeError("bench: expected all benchmarks to pass their checks, got failures (above)")
        report = [sys.executable, str(SUITE / "report.py"), str(results), "--out", str(folder)]
        if record is not None:
            report += ["--record", str(record)]
        subprocess.run(report, check=True)


if __name__ == "__main__":
    bench()

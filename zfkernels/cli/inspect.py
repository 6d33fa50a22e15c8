"""zfkernels inspect"""

from __future__ import annotations

from pathlib import Path

import click

from zfkernels.cli import options


@click.command()
@click.option("--only", metavar="TEXT", multiple=True, help="Cases with this in op/shape; may be repeated.")
@click.option("--arch", "archs", multiple=True, default=("sm_80", "sm_90", "sm_100", "sm_120"), help="May be repeated.")
@click.option("--dtype", "dtypes", multiple=True, default=("float16",), help="May be repeated.")
@click.option("--out", type=click.Path(path_type=Path), help="Markdown file of the report over all recorded kernels.")
@click.option("--record", type=click.Path(path_type=Path), help="JSON file of budgets to write these records into.")
@click.option("--check", type=click.Path(path_type=Path, exists=True), help="JSON file of budgets to compare with.")
@options.json_option
def inspect(
    only: tuple[str, ...], archs: tuple[str, ...], dtypes: tuple[str, ...],
    out: Path | None, record: Path | None, check: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """What the compiled GPU kernels say of themselves, without a GPU: resources, instructions, bounds, estimates.

    Compiles the Triton kernels ahead of time on headline shapes. No number is a measured time.
    """
    import dataclasses

    import torch

    from zfkernels.inspect import record as records
    from zfkernels.inspect.cases import CASES
    from zfkernels.inspect.gpus import GPUS
    from zfkernels.inspect.report import markdown
    from zfkernels.inspect.triton_family import inspect_case, versions

    known = {*GPUS, "gfx942"}
    if set(archs) - known:
        raise click.UsageError(f"inspect: expected --arch of {sorted(known)}, got {sorted(set(archs) - known)}")
    if set(dtypes) - {"float16", "bfloat16", "float32"}:
        raise click.UsageError(f"inspect: expected --dtype float16, bfloat16 or float32, got {sorted(dtypes)}")
    cases = [case for case in CASES if not only or any(text in f"{case.op}/{case.name}" for text in only)]
    if not cases:
        names = ", ".join(f"{case.op}/{case.name}" for case in CASES)
        raise click.UsageError(f"inspect: expected --only to name one of {names}, got {', '.join(only)}")
    found = []
    for arch in archs:
        for case in cases:
            for dtype in dtypes:
                click.echo(f"compiling {case.op}/{case.name} in {dtype} for {arch}", err=True)
                found.append(inspect_case(case, getattr(torch, dtype), arch))
                if record is not None:
                    records.save(record, found[-1:], versions())
    worse = []
    if check is not None:
        budgets = records.load(check)
        for one in found:
            known_budget = budgets.get(one.key)
            worse += records.regressions(one, known_budget) if known_budget else [f"{one.key}: is not in {check}"]
    everything = list(records.load(record).values()) if record is not None else found
    report = markdown(everything, versions())
    if out is not None:
        out.write_text(report)
    options.report({"records": [dataclasses.asdict(one) for one in found]}, report, as_json)
    if worse:
        raise RuntimeError(f"inspect: expected no kernel worse than recorded, got {'; '.join(worse)}")

"""What the compiled GPU kernels say of themselves: ``python tools/gpu_code --help``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from zfkernels.cli import options
from zfkernels.cli.sentences import OneSentence

sys.path.append(str(Path(__file__).parent.parent))  # this folder is a package there

from gpu_code.gpus import GPUS, TURING

DEFAULT = tuple(arch for arch in GPUS if arch != TURING)


@click.command(cls=OneSentence, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--only", metavar="TEXT", multiple=True, help="Cases with this in op/shape; may be repeated.")
@click.option(
    "--family", "families", type=click.Choice(["triton", "cuda"]), multiple=True,
    help="Only the kernels of one family; default: both, the CUDA kernels where they are built or nvcc is there.",
)  # fmt: skip
@click.option("--arch", "archs", multiple=True, default=DEFAULT, help="May be repeated.")
@click.option("--dtype", "dtypes", multiple=True, default=("float16",), help="May be repeated.")
@click.option("--out", type=click.Path(path_type=Path), help="Markdown file of the report over all recorded kernels.")
@click.option("--record", type=click.Path(path_type=Path), help="CSV file of budgets to write these records into.")
@click.option("--check", type=click.Path(path_type=Path, exists=True), help="CSV file of budgets to compare with.")
@click.option(
    "--sweeps", type=click.Path(path_type=Path, exists=True),
    help="Instead: whole sweeps of networks, estimated from this CSV file of budgets; nothing is compiled.",
)  # fmt: skip
@options.json_option
def gpu_code(
    only: tuple[str, ...], families: tuple[str, ...], archs: tuple[str, ...], dtypes: tuple[str, ...],
    out: Path | None, record: Path | None, check: Path | None, sweeps: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """What the compiled GPU kernels say of themselves, without a GPU: resources, instructions, bounds, estimates.

    Compiles the Triton kernels ahead of time on headline shapes and reads the machine code of the CUDA kernels. No
    number is a measured time.
    """
    import dataclasses
    import itertools

    import torch

    from gpu_code import cuda_binaries, cuda_family, cuda_launches, triton_family
    from gpu_code import record as records
    from gpu_code.cases import CASES
    from gpu_code.report import markdown
    from gpu_code.window_cases import WINDOWS
    from zfkernels.output import check_file, write_whole

    if out is not None:
        check_file("gpu_code", out)
    if sweeps is not None:
        _sweeps(sweeps, out, as_json)
        return

    known = {*GPUS, "gfx942"}
    if set(archs) - known:
        raise click.UsageError(f"gpu_code: expected --arch of {sorted(known)}, got {sorted(set(archs) - known)}")
    if set(dtypes) - {"float16", "bfloat16", "float32"}:
        raise click.UsageError(f"gpu_code: expected --dtype float16, bfloat16 or float32, got {sorted(dtypes)}")
    for arch in set(archs) & set(GPUS):
        if set(dtypes) - set(GPUS[arch].tensor):
            raise click.UsageError(
                f"gpu_code: expected --dtype of {sorted(GPUS[arch].tensor)} for {arch}, got {sorted(dtypes)}"
            )
    cases = [case for case in (*CASES, *WINDOWS) if not only or any(text in f"{case.op}/{case.name}" for text in only)]
    if not cases:
        names = ", ".join(f"{case.op}/{case.name}" for case in (*CASES, *WINDOWS))
        raise click.UsageError(f"gpu_code: expected --only to name one of {names}, got {', '.join(only)}")
    budgets = {}
    if record is not None and record.exists():
        records.load(record)  # compiling takes minutes: a file that cannot be added to is refused before
    modules = {"triton": triton_family, "cuda": cuda_family}
    why_not = cuda_binaries.why_not()
    if not families and why_not is not None:
        click.echo(f"without the CUDA kernels: {why_not}", err=True)
    families = families or tuple(name for name in modules if name != "cuda" or why_not is None)
    versions = {name: value for family in families for name, value in modules[family].versions().items()}
    if check is not None:
        budgets = records.load(check)
        if "triton" in families:
            budgets |= records.load(records.of_triton(check, versions["triton"]))
    found = []
    for family, arch in itertools.product(families, archs):
        if family == "cuda" and arch not in DEFAULT:  # the launches without matrix products are not recorded
            continue
        for case, dtype in itertools.product(cases, dtypes):
            if family == "cuda" and not cuda_launches.is_recorded(case):
                continue
            click.echo(f"compiling {family}/{case.op}/{case.name} in {dtype} for {arch}", err=True)
            found.append(modules[family].inspect_case(case, getattr(torch, dtype), arch))
            if record is not None:
                records.save(record, found[-1:], versions)
    worse = []
    if check is not None:
        for one in found:
            known_budget = budgets.get(one.key)
            worse += records.regressions(one, known_budget) if known_budget else [f"{one.key}: is not in {check}"]
    everything = list(records.load(record).values()) if record is not None else found
    report = markdown(everything, records.versions(record) if record is not None else versions)
    if out is not None:
        write_whole(out, report.encode())
    options.report({"records": [dataclasses.asdict(one) for one in found]}, report, as_json)
    if worse:
        raise RuntimeError(f"gpu_code: expected no kernel worse than recorded, got {'; '.join(worse)}")


def _sweeps(budgets: Path, out: Path | None, as_json: bool) -> None:
    """The report of whole sweeps."""
    import dataclasses

    from gpu_code import record as records
    from gpu_code.sweeps import SWEEPS, markdown, sweep_of
    from zfkernels.models import get_model
    from zfkernels.output import write_whole

    known, arch = records.load(budgets), "sm_90"
    found = [
        sweep_of(case, get_model(case.network, weights=None).to("meta"), dtype, known, arch)
        for case in SWEEPS
        for dtype in ("float16", "float32")
    ]
    report = markdown(found, arch)
    if out is not None:
        write_whole(out, report.encode())
    options.report({"sweeps": [dataclasses.asdict(one) | {"ratio": one.ratio} for one in found]}, report, as_json)


if __name__ == "__main__":
    gpu_code()

"""zfkernels info"""

from __future__ import annotations

import click

from zfkernels.cli import options


@click.command()
@options.json_option
def info(as_json: bool) -> None:
    """Which variant of each op can run here, or why not; versions of what it is built on."""
    import platform

    import torch

    import zfkernels
    from zfkernels.ops import availability

    versions = {
        "zfkernels": zfkernels.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "triton": _version("triton"),
        "cuda": f"{torch.version.cuda}, {torch.cuda.get_device_name()}" if torch.cuda.is_available() else "no device",
        "cpu": f"{torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads",
    }
    table: dict[str, dict[str, str | None]] = {}
    for op, variant, why_not in availability():
        table.setdefault(op, {})[variant] = why_not
    lines = [f"{name:<10} {value}" for name, value in versions.items()]
    for op, variants in table.items():
        lines += ["", op, *(f"  {variant:<10} {why_not or 'available'}" for variant, why_not in variants.items())]
    options.report({"versions": versions, "ops": table}, "\n".join(lines), as_json)


def _version(package: str) -> str:
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"

"""zfkernels info"""

from __future__ import annotations

import click

from zfkernels.cli import environment, options


@click.command()
@options.json_option
def info(as_json: bool) -> None:
    """Which variant of each op can run here, or why not; versions of what it is built on."""
    report = environment.report()
    options.report(report, environment.as_text(report), as_json)

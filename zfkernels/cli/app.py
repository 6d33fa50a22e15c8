"""The group of commands."""

from __future__ import annotations

import click

import zfkernels
from zfkernels.cli.ablate import ablate
from zfkernels.cli.correspondence import correspondence
from zfkernels.cli.demo import demo
from zfkernels.cli.diagnose import diagnose
from zfkernels.cli.evolve import evolve
from zfkernels.cli.gallery import figure, gallery
from zfkernels.cli.info import info
from zfkernels.cli.invariance import invariance
from zfkernels.cli.layers import layers
from zfkernels.cli.occlude import occlude
from zfkernels.cli.project import project
from zfkernels.cli.sentences import OneSentenceGroup
from zfkernels.cli.serve import serve
from zfkernels.cli.train import evaluate, train
from zfkernels.cli.transfer import probe, transfer
from zfkernels.signed import signed


@click.group(cls=OneSentenceGroup, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--debug", is_flag=True, help="End a failed run with the traceback instead of one sentence.")
@click.version_option(zfkernels.__version__, prog_name="zfkernels")
def app(debug: bool) -> None:
    """See what a convolutional network has learned."""


COMMANDS = (
    demo, serve, layers, gallery, figure, project, occlude, invariance, correspondence, diagnose,
    train, evaluate, evolve, ablate, transfer, probe,
    info,
)  # fmt: skip
for command in COMMANDS:
    assert command.callback is not None
    command.callback = signed(command.name or "")(command.callback)
    app.add_command(command)

"""The group of commands, and how a failure reads."""

from __future__ import annotations

from typing import Any

import click

import zfkernels
from zfkernels.cli.ablate import ablate
from zfkernels.cli.bench import bench
from zfkernels.cli.correspondence import correspondence
from zfkernels.cli.demo import demo
from zfkernels.cli.diagnose import diagnose
from zfkernels.cli.evolve import evolve
from zfkernels.cli.gallery import figure, gallery
from zfkernels.cli.info import info
from zfkernels.cli.inspect import inspect
from zfkernels.cli.invariance import invariance
from zfkernels.cli.layers import layers
from zfkernels.cli.occlude import occlude
from zfkernels.cli.project import project
from zfkernels.cli.train import evaluate, train
from zfkernels.cli.transfer import probe, transfer

# Commands that take up what an interrupted run left behind, and those that keep what they computed if told where.
RESUMED, CACHED = ("gallery", "train"), ("transfer", "probe")


class _OneSentence(click.Group):
    """What the package raises with a sentence for its caller ends the run with that sentence, not with a traceback."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except KeyboardInterrupt:
            raise click.ClickException(f"interrupted; {_how_to_go_on(context.invoked_subcommand)}") from None
        except (ValueError, TypeError, RuntimeError, OSError, ImportError) as error:
            if isinstance(error, (click.exceptions.Exit, click.Abort)):
                raise
            raise click.ClickException(str(error).splitlines()[0] if str(error) else type(error).__name__) from error


def _how_to_go_on(command: str | None) -> str:
    if command in RESUMED:
        return "the same command goes on where this one stopped (--fresh starts anew)"
    if command == "ablate":
        return "the same command goes on where this one stopped"
    if command in CACHED:
        return "nothing was written; with --cache the same command goes on with the features that are there"
    return "nothing was written; the same command starts anew"


@click.group(cls=_OneSentence, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(zfkernels.__version__, prog_name="zfkernels")
def app() -> None:
    """See what a convolutional network has learned."""


COMMANDS = (
    demo, layers, gallery, figure, project, occlude, invariance, correspondence, diagnose,
    train, evaluate, evolve, ablate, transfer, probe,
    bench, inspect, info,
)  # fmt: skip
for command in COMMANDS:
    app.add_command(command)

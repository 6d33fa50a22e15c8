"""The group of commands, and how a failure reads."""

from __future__ import annotations

import errno
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
from zfkernels.cli.serve import serve
from zfkernels.cli.train import evaluate, train
from zfkernels.cli.transfer import probe, transfer

# Commands that take up what an interrupted run left behind, and those that keep what they computed if told where.
RESUMED, CACHED = ("gallery", "train"), ("transfer", "probe")
SENTENCES = (ValueError, TypeError, RuntimeError, OSError, ImportError)  # what the package raises for its caller
REPORT = (
    "please report it as an issue of the repository that zfkernels came from, with the output of zfkernels info; "
    "zfkernels --debug … shows the traceback"
)


class _OneSentence(click.Group):
    """A failure ends the run with one sentence, not with a traceback: the package's own, or one that no one foresaw."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except KeyboardInterrupt:
            raise click.ClickException(f"interrupted; {_how_to_go_on(context.invoked_subcommand)}") from None
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:  # the last resort
            if context.params["debug"] or (isinstance(error, OSError) and error.errno == errno.EPIPE):
                raise
            from zfkernels.data.names import printable

            sentence = printable(str(error).split("\n")[0]) or type(error).__name__
            if not isinstance(error, SENTENCES):
                sentence = f"unforeseen: {type(error).__name__}: {sentence} ({REPORT})"
            raise click.ClickException(sentence) from error


def _how_to_go_on(command: str | None) -> str:
    if command in RESUMED:
        return "the same command goes on where this one stopped (--fresh starts anew)"
    if command == "ablate":
        return "the same command goes on where this one stopped"
    if command in CACHED:
        return "nothing was written; with --cache the same command goes on with the features that are there"
    return "nothing was written; the same command starts anew"


@click.group(cls=_OneSentence, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--debug", is_flag=True, help="End a failed run with the traceback instead of one sentence.")
@click.version_option(zfkernels.__version__, prog_name="zfkernels")
def app(debug: bool) -> None:
    """See what a convolutional network has learned."""


COMMANDS = (
    demo, serve, layers, gallery, figure, project, occlude, invariance, correspondence, diagnose,
    train, evaluate, evolve, ablate, transfer, probe,
    bench, inspect, info,
)  # fmt: skip
for command in COMMANDS:
    app.add_command(command)

"""The group of commands, and how a failure reads."""

from __future__ import annotations

from typing import Any

import click

import zfkernels
from zfkernels.cli.bench import bench
from zfkernels.cli.demo import demo
from zfkernels.cli.gallery import gallery
from zfkernels.cli.info import info
from zfkernels.cli.inspect import inspect
from zfkernels.cli.occlude import occlude
from zfkernels.cli.project import project
from zfkernels.cli.train import evaluate, train


class _OneSentence(click.Group):
    """What the package raises with a sentence for its caller ends the run with that sentence, not with a traceback."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except (ValueError, TypeError, RuntimeError, OSError, ImportError) as error:
            if isinstance(error, (click.exceptions.Exit, click.Abort)):
                raise
            raise click.ClickException(str(error).splitlines()[0] if str(error) else type(error).__name__) from error


@click.group(cls=_OneSentence, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(zfkernels.__version__, prog_name="zfkernels")
def app() -> None:
    """See what a convolutional network has learned."""


for command in (demo, gallery, project, occlude, train, evaluate, bench, inspect, info):
    app.add_command(command)

"""How a failure of a command reads: one sentence, not a traceback."""

from __future__ import annotations

import errno
from typing import Any

import click

# Commands that take up what an interrupted run left behind, and those that keep what they computed if told where.
RESUMED, CACHED = ("gallery", "train"), ("transfer", "probe")
SENTENCES = (ValueError, TypeError, RuntimeError, OSError, ImportError)  # what the package raises for its caller
REPORT = (
    "please report it as an issue of the repository that zfkernels came from, with the output of zfkernels info; "
    "zfkernels --debug … shows the traceback"
)


class OneSentence(click.Command):
    """A failure ends the run with one sentence, not with a traceback: the package's own, or one that no one foresaw."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except KeyboardInterrupt:
            raise click.ClickException(f"interrupted; {_how_to_go_on(context.invoked_subcommand)}") from None
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:  # the last resort
            if context.params.get("debug") or (isinstance(error, OSError) and error.errno == errno.EPIPE):
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


class OneSentenceGroup(OneSentence, click.Group):
    """A group whose commands fail with one sentence."""

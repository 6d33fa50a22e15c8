"""The command line: parses, calls the package, saves. Imported by nobody."""

from __future__ import annotations

import io
import sys

from zfkernels._extras import require


def main() -> None:
    """Runs ``zfkernels``; exit codes: 0, 1 (the run failed, one sentence on stderr), 2 (usage)."""
    try:
        require("click", "viz")
    except ImportError as error:
        if sys.argv[1:] == ["info"]:
            from zfkernels.cli import environment

            return print(environment.as_text(environment.report()))
        sys.exit(f"Error: {error}")
    from zfkernels.cli.app import app

    for stream in (sys.stdout, sys.stderr):  # names that the terminal cannot show are shown escaped
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    app()

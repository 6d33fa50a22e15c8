"""Options that several commands share."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zfkernels.cli.network import class_names, load_any_model, load_model, model_options

if TYPE_CHECKING:
    from zfkernels.data import ImageSource

FORMAT = "zfkernels.format"  # where a command's context keeps what --format says
__all__ = ["class_names", "load_any_model", "load_model", "model_options"]


class Numbers(click.ParamType):
    """Whole numbers separated by commas."""

    name = "numbers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        try:
            return tuple(int(part) for part in value.split(","))
        except ValueError:
            self.fail(f"expected whole numbers separated by commas, got {value!r}", param, ctx)


class Folder(click.Path):
    """The folder of the results; an empty name would mean the current one."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("expected the name of a folder, got ''", param, ctx)
        return super().convert(value, param, ctx)


data_option = click.option(
    "--data",
    default="embedded",
    help="Folder, .zip or .tar archive, shards such as x-{00..12}.tar, image file, an address of fsspec's, "
    "torchvision data set as NAME:FOLDER, or embedded.",
)
limit_option = click.option("--limit", type=click.IntRange(min=1), help="Use so many of the images, evenly spaced.")
out_option = click.option("--out", required=True, type=Folder(), help="Folder of the results, apart from the data.")
batch_size_option = click.option("--batch-size", type=click.IntRange(min=1), default=64, help="Images at a time.")
workers_option = click.option(
    "--workers", type=click.IntRange(min=0), help="Processes that decode images; one for each core if not given."
)
format_option = click.option(
    "--format", type=click.Choice(["png", "pdf", "svg"]), default="png", expose_value=False, is_eager=True,
    callback=lambda context, parameter, value: context.meta.__setitem__(FORMAT, value), help="Of the figures.",
)  # fmt: skip
json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")


def check_out(command: str, out: Path, names: Sequence[str], *data: str) -> None:
    """Refuses --out before anything is computed.

    Args:
        command: In whose name to complain.
        out: The folder of the results.
        names: Of the results in it; none where whoever writes them looks for himself.
        data: What --data and the like say.

    Raises:
        ValueError: ``out`` is, holds or lies in the data, or holds something of such a name that is not ours.
        OSError: ``out`` cannot be made or written to, or another run works in it.
    """
    from zfkernels import output

    output.check_out(command, out, [path for text in data for path in output.local_paths(_torchvision_folder(text))])
    if names:
        with output.working_in(out, command):
            output.refuse_foreign(out, names, command)


def in_format(names: Sequence[str]) -> tuple[str, ...]:
    """The names of a command's files, its figures (.png) with the suffix of --format."""
    context = click.get_current_context(silent=True)
    suffix = "png" if context is None else context.meta.get(FORMAT, "png")
    return tuple(f"{name[:-4]}.{suffix}" if name.endswith(".png") else name for name in names)


def open_data(text: str, limit: int | None) -> ImageSource:
    """The images of --data and --limit."""
    from zfkernels.data import open_source, start_no_programs

    start_no_programs()  # torchvision's data sets open whatever Pillow can
    source = open_source(_torchvision_dataset(text) or text)
    if limit is not None:
        source.limit(limit)
    return source


def _torchvision_dataset(text: str) -> Any:
    folder = _torchvision_folder(text)
    if folder != text:
        from torchvision import datasets

        kind = getattr(datasets, text[: -len(folder) - 1], None)
        if isinstance(kind, type):
            return kind(folder)
    return None


def _torchvision_folder(text: str) -> str:
    """FOLDER of NAME:FOLDER; anything else as it is."""
    name, _, folder = text.partition(":")
    named = folder and name.isidentifier() and not folder.startswith("//") and not Path(text).exists()
    return folder if named else text


def use_backend(backend: str | None) -> AbstractContextManager[Any]:
    """The variant of --backend, inside a with statement."""
    if backend is None:
        return nullcontext()
    import zfkernels

    return zfkernels.use_backend(backend)


def report(result: dict[str, Any], text: str, as_json: bool) -> None:
    """Prints the result of a command, for people or for programs."""
    from zfkernels.data.names import printable

    if as_json:
        say_json(result)
    else:
        say("\n".join(map(printable, text.split("\n"))))


def say_json(record: dict[str, Any]) -> None:
    """Prints a record on a line of its own, in ASCII: whatever encoding the terminal has, it stays JSON."""
    from zfkernels.output import to_json

    say(to_json(record, ascii_only=True))


def say(text: str) -> None:
    """Prints text; if that cannot be done, it is the standard output that the failure is about."""
    try:
        click.echo(text)
    except OSError as error:
        if error.errno == errno.EPIPE:  # whoever read it has seen enough
            raise
        raise click.ClickException(f"the standard output cannot be written to: {error.strerror or error}") from error

"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zfkernels.cli.network import class_names, load_model, model_options
from zfkernels.cli.tables import as_json_text

if TYPE_CHECKING:
    from zfkernels.data import ImageSource

FORMAT = "zfkernels.format"  # where a command's context keeps what --format says
__all__ = ["class_names", "load_model", "model_options"]


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


data_option = click.option(
    "--data",
    default="embedded",
    help="Folder, .zip or .tar archive, shards such as x-{00..12}.tar, image file, an address of fsspec's, "
    "torchvision data set as NAME:FOLDER, or embedded.",
)
limit_option = click.option("--limit", type=click.IntRange(min=1), help="Use so many of the images, evenly spaced.")
out_option = click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder of the results.")
batch_size_option = click.option("--batch-size", type=click.IntRange(min=1), default=64, help="Images at a time.")
workers_option = click.option(
    "--workers", type=click.IntRange(min=0), help="Processes that decode images; one for each core if not given."
)
format_option = click.option(
    "--format", type=click.Choice(["png", "pdf", "svg"]), default="png", expose_value=False, is_eager=True,
    callback=lambda context, parameter, value: context.meta.__setitem__(FORMAT, value), help="Of the figures.",
)  # fmt: skip
json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")


def in_format(names: Sequence[str]) -> tuple[str, ...]:
    """The names of a command's files, its figures (.png) with the suffix of --format."""
    context = click.get_current_context(silent=True)
    suffix = "png" if context is None else context.meta.get(FORMAT, "png")
    return tuple(f"{name[:-4]}.{suffix}" if name.endswith(".png") else name for name in names)


def open_data(text: str, limit: int | None) -> ImageSource:
    """The images of --data and --limit."""
    from zfkernels.data import open_source

    source = open_source(_torchvision_dataset(text) or text)
    if limit is not None:
        source.limit(limit)
    return source


def _torchvision_dataset(text: str) -> Any:
    name, _, folder = text.partition(":")
    if not Path(text).exists() and name.isidentifier() and name != "embedded":
        from torchvision import datasets

        kind = getattr(datasets, name, None)
        if isinstance(kind, type) and folder:
            return kind(folder)
    return None


def use_backend(backend: str | None) -> AbstractContextManager[Any]:
    """The variant of --backend, inside a with statement."""
    if backend is None:
        return nullcontext()
    import zfkernels

    return zfkernels.use_backend(backend)


def report(result: dict[str, Any], text: str, as_json: bool) -> None:
    """Prints the result of a command, for people or for programs."""
    click.echo(as_json_text(result) if as_json else text)

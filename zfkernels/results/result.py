"""What every result can do: show itself, turn into arrays and tables, be saved, be compared."""

from __future__ import annotations

import html
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from torch import Tensor

from zfkernels._extras import require
from zfkernels.results import files
from zfkernels.results.look import Look
from zfkernels.windows import Windows

if TYPE_CHECKING:
    import numpy
    import pandas
    import xarray

ResultT = TypeVar("ResultT", bound="Result")
Variables = Mapping[str, tuple[tuple[str, ...], Tensor]]
SHOWN = 12  # rows of a summary


class Result:
    """The base of all results, which are frozen dataclasses of tensors and plain values.

    Two results are equal when all their values are, to the bit, wherever their tensors lie; NaN equals NaN.
    """

    kinds: ClassVar[dict[str, type]] = {"Windows": Windows, "Look": Look}

    def __init_subclass__(cls) -> None:
        Result.kinds[cls.__name__] = cls

    def headline(self) -> str:
        """The result in one line."""
        raise NotImplementedError

    def overview(self) -> list[dict[str, Any]]:
        """A few numbers for each image or layer, in the order of the result."""
        raise NotImplementedError

    def variables(self) -> Variables:
        """The tensors of the result by name, each with the names of its dimensions."""
        raise NotImplementedError

    def coordinates(self) -> Mapping[str, Sequence[Any]]:
        """What the places along a dimension are called, for dimensions that have names for them."""
        return {}

    def columns(self) -> Mapping[str, Sequence[Any]]:
        """A table with a line for each number that was measured: equally long columns by name."""
        raise NotImplementedError

    def summary(self) -> str:
        """The result in a line and a short table, for people."""
        head, lines, left = table_of(self.overview())
        cells = [head, *lines]
        widths = [max(len(row[n]) for row in cells) for n in range(len(head))]
        text = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
        return "\n".join([self.headline(), *text, *([f"and {left} more"] if left else [])])

    def to_numpy(self) -> dict[str, numpy.ndarray]:
        """The tensors of the result as arrays by name; bfloat16, which NumPy lacks, as float32."""
        return {name: files.as_array(tensor) for name, (_, tensor) in self.variables().items()}

    def to_pandas(self) -> pandas.DataFrame:
        """A table with a line for each number that was measured.

        Raises:
            ImportError: pandas is not installed.
        """
        return require("pandas", "tables").DataFrame(dict(self.columns()))

    def to_xarray(self) -> xarray.Dataset:
        """The tensors of the result with named dimensions.

        Raises:
            ImportError: xarray is not installed.
        """
        content = {name: (dims, files.as_array(tensor)) for name, (dims, tensor) in self.variables().items()}
        coordinates = {name: list(values) for name, values in self.coordinates().items()}
        return require("xarray", "tables").Dataset(content, coordinates)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the result to a ``.safetensors`` file, whole or not at all; ``load`` reads it. Nothing is pickled.

        Raises:
            ValueError: another suffix.
            OSError: the file cannot be written.
        """
        files.write(self, path)

    @classmethod
    def load(cls: type[ResultT], path: str | os.PathLike[str]) -> ResultT:
        """The result in a file that ``save`` wrote, on the CPU.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file holds no result, or one of another kind.
        """
        result = files.read(path, Result.kinds)
        if not isinstance(result, cls):
            raise ValueError(f"{cls.__name__}.load: expected path of such a result, got a {type(result).__name__}")
        return result

    def __eq__(self, other: object) -> bool:
        return files.same(self, other)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.headline()}>"

    def _repr_html_(self) -> str:
        return html_table(f"{type(self).__name__}: {self.headline()}", self.overview())


def table_of(rows: Sequence[Mapping[str, Any]], limit: int | None = SHOWN) -> tuple[list[str], list[list[str]], int]:
    """The head and the first lines of a table as text, and how many lines are left out."""
    head = list(rows[0]) if rows else []
    kept = rows[:limit]
    return head, [[shown(row[name]) for name in head] for row in kept], len(rows) - len(kept)


def shown(value: Any) -> str:
    """A value in a table for people: numbers with three digits."""
    return f"{value:.3g}" if isinstance(value, float) else "" if value is None else str(value)


def html_table(title: str, rows: Sequence[Mapping[str, Any]], limit: int | None = SHOWN) -> str:
    """A title over a table of at most ``limit`` lines, for a notebook."""
    head, lines, left = table_of(rows, limit)
    cells = "".join(f"<th>{html.escape(name)}</th>" for name in head)
    body = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in line)}</tr>" for line in lines)
    more = f"<p>and {left} more</p>" if left else ""
    return f"<p>{html.escape(title)}</p><table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table>{more}"


def plural(count: int, noun: str) -> str:
    """``1 image``, ``2 images``; a noun that ends in s or x takes es, one in y ies."""
    if count == 1:
        return f"1 {noun}"
    end = "ies" if noun.endswith("y") else "es" if noun.endswith(("s", "x")) else "s"
    return f"{count:,} {noun.removesuffix('y') if end == 'ies' else noun}{end}"

"""Arrays of many images on disk: an npz file for each image, or a Zarr group with a chunk for each."""

from __future__ import annotations

import io
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zfkernels._extras import require

if TYPE_CHECKING:
    import xarray

Arrays = Mapping[str, np.ndarray]
IMAGE = "image"


@dataclass(frozen=True)
class Variable:
    """What is kept of each image under a name.

    Attributes:
        dims: Names of the dimensions, without that of the images.
        shape: Lengths of them.
        dtype: NumPy's name of the type.
    """

    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str

    @classmethod
    def of(cls, dims: Iterable[str], array: np.ndarray) -> Variable:
        return cls(tuple(dims), array.shape, str(array.dtype))


class Format(ABC):
    """Writes and reads the arrays of images by row.

    Args:
        folder: Where they are, or are to be.
        variables: What is kept of each image.
    """

    def __init__(self, folder: Path, variables: Mapping[str, Variable]) -> None:
        self.folder, self.variables = folder, variables

    @abstractmethod
    def begin(self, count: int) -> None:
        """Makes room for ``count`` images; what an earlier attempt left goes."""

    @abstractmethod
    def put(self, row: int, arrays: Arrays) -> list[Path]:
        """Writes the arrays of an image, and says which files they are in."""

    @abstractmethod
    def get(self, row: int, names: Iterable[str]) -> dict[str, np.ndarray]:
        """Some arrays of an image."""

    @abstractmethod
    def stacked(self, name: str, rows: list[int]) -> Any:
        """One variable of some images, [N, ...]; what xarray takes as data."""


class Npz(Format):
    """A compressed npz file for each image."""

    def begin(self, count: int) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()

    def put(self, row: int, arrays: Arrays) -> list[Path]:
        path, file = self._path(row), io.BytesIO()
        np.savez_compressed(file, allow_pickle=False, **arrays)  # the same arrays give the same bytes
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(file.getvalue())
        return [path]

    def get(self, row: int, names: Iterable[str]) -> dict[str, np.ndarray]:
        with np.load(self._path(row), allow_pickle=False) as file:
            return {name: file[name] for name in names}

    def stacked(self, name: str, rows: list[int]) -> np.ndarray:
        kept = self.variables[name]
        found = np.empty((len(rows), *kept.shape), kept.dtype)
        for place, row in enumerate(rows):
            found[place] = self.get(row, [name])[name]
        return found

    def _path(self, row: int) -> Path:
        return self.folder / f"{row // 1000:04d}" / f"{row:07d}.npz"


class Zarr(Format):
    """A Zarr group (of version 3) with an array [images, ...] for each variable; each image is a chunk of its own."""

    def __init__(self, folder: Path, variables: Mapping[str, Variable]) -> None:
        super().__init__(folder, variables)
        self.zarr = require("zarr", "arrays")
        self._group: Any = None

    def begin(self, count: int) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        group = self.zarr.open_group(self.folder, mode="w", zarr_format=3)
        for name, kept in self.variables.items():
            group.create_array(
                name, shape=(count, *kept.shape), chunks=(1, *(max(1, side) for side in kept.shape)), dtype=kept.dtype,
                dimension_names=(IMAGE, *kept.dims),
            )  # fmt: skip

    def put(self, row: int, arrays: Arrays) -> list[Path]:
        files = []
        for name in self.variables:
            array = self.group[name]
            if row >= array.shape[0]:  # of a source that does not know its length
                array.resize((row + 1, *array.shape[1:]))
            array[row] = arrays[name]
            files += sorted(path for path in (self.folder / name / "c" / str(row)).rglob("*") if path.is_file())
            files += [path for path in [self.folder / name / "c" / str(row)] if path.is_file()]
        return files

    def get(self, row: int, names: Iterable[str]) -> dict[str, np.ndarray]:
        return {name: np.asarray(self.group[name][row]) for name in names}

    def stacked(self, name: str, rows: list[int]) -> Any:
        data = self._lazy()[name]
        return (data if rows == list(range(data.shape[0])) else data.isel({IMAGE: rows})).variable

    @property
    def group(self) -> Any:
        if self._group is None:
            self._group = self.zarr.open_group(self.folder, mode="r+")
        return self._group

    def _lazy(self) -> xarray.Dataset:
        return require("xarray", "tables").open_zarr(self.folder, consolidated=False)


FORMATS: Mapping[str, type[Format]] = {"npz": Npz, "zarr": Zarr}


def installed_format() -> str:
    """Zarr if it is installed, else npz."""
    try:
        require("zarr", "arrays")
    except ImportError:
        return "npz"
    return "zarr"

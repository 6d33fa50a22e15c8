"""The whole matrix image x map of maxima, in float16 and on the disk: what the first pass saw of every map."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from zfkernels._extras import require

if TYPE_CHECKING:
    import pyarrow

LARGEST = 65504.0  # of float16; a larger maximum is kept as this
FILE, ROWS = "maxima.npy", "images.parquet"


class Matrix:
    """Takes the maxima of some images at a time, in any order; rows are images by id, columns maps by layer.

    Args:
        path: The file, ``.npy``.
        ids: Of all images that may come.
        maps: How many maps there are.

    Attributes:
        labels: int32 [N], numbers of the labels of the images that came through here; -1 where there is none.
    """

    def __init__(self, path: Path, ids: Iterable[int], maps: int) -> None:
        self.path, self.maps = path, maps
        self.ids = torch.tensor(sorted(ids), dtype=torch.int64)
        self.labels = torch.full((len(self.ids),), -1, dtype=torch.int32)

    def is_there(self) -> bool:
        """Whether the file is there, of this shape."""
        try:
            return open_matrix(self.path).shape == (len(self.ids), self.maps)
        except (OSError, ValueError):
            return False

    def reserve(self) -> None:
        """Makes the file, so that a full disk is an error now and not after the pass."""
        shape = (len(self.ids), self.maps)
        np.lib.format.open_memmap(self.path, mode="w+", dtype=np.float16, shape=shape).flush()
        if hasattr(os, "posix_fallocate"):
            with open(self.path, "r+b") as file:
                os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)

    def put(self, ids: Tensor, maxima: Tensor, labels: Sequence[int]) -> None:
        """Keeps the maxima [n, maps] of images, and the numbers of their labels."""
        rows = self._rows(ids)
        self._file[rows.numpy()] = maxima.float().clamp(-LARGEST, LARGEST).half().numpy()
        self.labels[rows] = torch.tensor(labels, dtype=torch.int32)

    def leave_out(self, ids: Iterable[int]) -> None:
        """Rows of NaN for images that could not be used."""
        rows = self._rows(torch.tensor(sorted(ids), dtype=torch.int64))
        if len(rows):
            self._file[rows.numpy()] = np.nan
            self.flush()

    def flush(self) -> None:
        """Makes sure that what was put is on the disk."""
        if "_file" in self.__dict__:
            self._file.flush()

    def tensors(self) -> dict[str, Tensor]:
        """What is not in the file, to be saved."""
        return {"maxima.labels": self.labels.clone()}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Takes up what was saved."""
        if tensors:
            self.labels = tensors["maxima.labels"].clone()

    def write_rows(self, path: Path, keys: Sequence[str], states: Iterable[Mapping[str, Tensor]]) -> None:
        """Writes which image each row is, and its label, from the saved states of all processes."""
        pa, parquet = require("pyarrow", "viz"), require("pyarrow.parquet", "viz")
        labels: list[str | None] = [None] * len(self.ids)
        for state in states:
            names = json.loads(state["statistics.labels"].numpy().tobytes())
            for row in (state["maxima.labels"] >= 0).nonzero()[:, 0].tolist() if names is not None else ():
                labels[row] = names[int(state["maxima.labels"][row])]
        ids = self.ids.tolist()
        columns = {
            "image_id": pa.array(ids, pa.int64()),
            "image": pa.array([keys[n] for n in ids], pa.string()),
            "label": pa.array(labels, pa.string()),
        }
        parquet.write_table(pa.table(columns), path, compression="zstd")

    @cached_property
    def _file(self) -> np.memmap:
        return np.lib.format.open_memmap(self.path, mode="r+")

    def _rows(self, ids: Tensor) -> Tensor:
        return torch.searchsorted(self.ids, ids)


def open_matrix(path: Path) -> np.memmap:  # float16 [images, maps]
    """The matrix in a file, mapped and not read.

    Raises:
        FileNotFoundError: There is none.
        ValueError: It is not of the form that a gallery writes.
    """
    found = np.load(path, mmap_mode="r", allow_pickle=False)
    if not isinstance(found, np.memmap) or found.dtype != np.float16 or found.ndim != 2:
        raise ValueError(f"Gallery: expected {path} a matrix of float16, got {getattr(found, 'dtype', 'another file')}")
    return found


def open_rows(path: Path) -> pyarrow.Table:
    """Which image each row of a matrix is: image_id, image and label."""
    return require("pyarrow.parquet", "viz").read_table(path)

"""Arrays of NumPy's as images: one to a file in a folder, or a whole stack in one file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from zfkernels._extras import require
from zfkernels.data.names import printable
from zfkernels.data.source import ImageSource, UnreadableImageError, reason_of

SUFFIXES = (".npy", ".npz", ".zarr")
LABELS = ("labels", "label", "y", "targets")


def read_array(data: bytes) -> np.ndarray:  # [H, W], [H, W, C] or [C, H, W]
    """The image in a ``.npy`` file.

    Raises:
        UnreadableImageError: It is none, or one of objects.
    """
    try:
        array = np.load(BytesIO(data), allow_pickle=False)
    except Exception as error:  # of NumPy's reader on broken files
        raise UnreadableImageError(reason_of(error)) from error
    if not isinstance(array, np.ndarray) or array.ndim not in (2, 3) or array.dtype.kind not in "uifb":
        shape = tuple(getattr(array, "shape", ()))
        raise UnreadableImageError(f"an array {shape} instead of numbers [H, W], [H, W, C] or [C, H, W]")
    return array


class ArraySource(ImageSource):
    """A stack of images in one file: ``.npy`` [N, H, W], [N, H, W, C] or [N, C, H, W], read from the disk as needed.

    ``.npz``: its largest array of such a shape, labels under "labels", "label", "y" or "targets" [N]. ``.zarr``: the
    array, or a group of such arrays (zarr has to be installed). An image's id is its index.

    Raises:
        ValueError: There is no such array, or the file cannot be read.
        ImportError: zarr is missing.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.name = printable(self.path.name)
        try:
            self.images, self.labels = _open(self.path)
        except (OSError, ValueError, KeyError) as error:
            raise ValueError(f"open_source: expected data a file of arrays, got {path} ({reason_of(error)})") from error
        self.keys = [str(index) for index in range(len(self.images))]
        self.order = range(len(self.images))

    def marks(self) -> Iterator[object]:
        yield self.images.shape, str(self.images.dtype)
        stat = self.path.stat()
        yield stat.st_size, stat.st_mtime_ns

    def load(self, image_id: int) -> tuple[np.ndarray, str | None]:
        label = None if self.labels is None else printable(str(self.labels[image_id]))
        return np.ascontiguousarray(self.images[image_id]), label

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "images": None, "labels": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.images, self.labels = _open(self.path)  # a worker maps the file itself


def is_stack(path: str | os.PathLike[str]) -> bool:
    """Whether a path names a file of arrays that holds more than one image."""
    path = Path(path)
    if path.suffix not in SUFFIXES or not path.exists():
        return False
    try:
        return path.suffix != ".npy" or np.load(path, mmap_mode="r", allow_pickle=False).ndim != 2
    except ValueError:  # which opening it as one will say
        return True


def _open(path: Path) -> tuple[Any, Any]:
    """The images of a file and their labels (None: it has none)."""
    if path.suffix == ".npy":
        return _stack({"": np.load(path, mmap_mode="r", allow_pickle=False)})
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as file:
            return _stack({name: file[name] for name in file.files})
    found = require("zarr", "arrays").open(str(path), mode="r")
    return _stack({"": found} if hasattr(found, "shape") else dict(found.arrays()))


def _stack(arrays: dict[str, Any]) -> tuple[Any, Any]:
    images = [array for array in arrays.values() if array.ndim in (3, 4) and array.dtype.kind in "uifb"]
    if not images or not min(len(array) for array in images):
        shapes = {name: tuple(array.shape) for name, array in arrays.items()}
        raise ValueError(f"no array of images [N, H, W], [N, H, W, C] or [N, C, H, W] among {shapes}")
    largest = max(images, key=lambda array: array.size)
    labels = next((arrays[name] for name in LABELS if name in arrays and arrays[name].shape == largest.shape[:1]), None)
    return largest, labels

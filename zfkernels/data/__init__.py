"""Images in: folders, archives, data sets and the embedded photos, as one stream of tensors with stable ids."""

from __future__ import annotations

import os
from typing import Any

from torch.utils.data import IterableDataset

from zfkernels.data.arrays import ArraySource, is_stack
from zfkernels.data.datasets import DatasetSource, IterableSource
from zfkernels.data.files import ImageFiles
from zfkernels.data.photos import EmbeddedPhotos, embedded_photos
from zfkernels.data.pictures import open_picture, start_no_programs
from zfkernels.data.source import ImageSource, UnreadableImageError, reason_of
from zfkernels.data.stream import Batch, load_batch, split, stream
from zfkernels.data.tables import TableSource, is_table

__all__ = [
    "ArraySource",
    "Batch",
    "DatasetSource",
    "EmbeddedPhotos",
    "ImageFiles",
    "ImageSource",
    "IterableSource",
    "TableSource",
    "UnreadableImageError",
    "embedded_photos",
    "load_batch",
    "open_picture",
    "open_source",
    "reason_of",
    "split",
    "start_no_programs",
    "stream",
]


def open_source(data: Any) -> ImageSource:
    """The images of ``data``.

    Args:
        data: A folder, a ``.zip`` or ``.tar`` archive (also compressed), shards (``shards-{000..012}.tar``, or a
            folder of tar files), a stack of arrays (``.npy``, ``.npz``, ``.zarr``), an address of fsspec's,
            ``"embedded"`` for the photos that ship with scikit-image, a map-style or an iterable data set (of
            HuggingFace's, too), a table of paths and labels (pandas, pyarrow), or a source, which is returned as it is.

    Raises:
        FileNotFoundError: The path does not exist.
        ValueError: There is no image in it, or the archive cannot be read.
        TypeError: ``data`` is none of these.
    """
    if isinstance(data, ImageSource):
        return data
    if isinstance(data, str) and data == "embedded":
        return embedded_photos()
    if isinstance(data, (str, os.PathLike)):
        return ArraySource(data) if is_stack(data) else ImageFiles(data)
    if is_table(data):
        return TableSource(data)
    if hasattr(data, "__iter__") and (isinstance(data, IterableDataset) or not hasattr(data, "__getitem__")):
        return IterableSource(data)
    return DatasetSource(data)

"""The images of a folder or an archive."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from zfkernels.data.archives import Shards
from zfkernels.data.arrays import read_array
from zfkernels.data.names import printable
from zfkernels.data.pictures import count_pages, decode
from zfkernels.data.places import open_store
from zfkernels.data.source import ImageSource, UnreadableImageError, reason_of

SUFFIXES = frozenset(
    (
        ".npy",
        ".jpg",
        ".jpeg",
        ".jpe",
        ".png",
        ".webp",
        ".bmp",
        ".gif",
        ".tif",
        ".tiff",
        ".ppm",
        ".pgm",
        ".jp2",
        ".j2k",
        ".avif",
    )
)
MAX_FILE_BYTES = 1 << 28
LABEL_SUFFIX, MAX_LABEL_BYTES = ".cls", 1 << 12  # what a WebDataset says of the class of the image of the same name


class ImageFiles(ImageSource):
    """The images in a folder and its subfolders, in an archive (zip or tar, also compressed), or in several archives.

    The path of one image file is a source of one image; several archives are named by a pattern
    (``shards-{000..012}.tar``), or as a folder of tar files; addresses such as ``s3://bucket/photos`` go through
    fsspec.

    A TIFF file of several pages is as many images, "name.tif#0", "name.tif#1", and so on; a ``.npy`` file is the array
    in it.

    Keys are the paths inside the folder or archive, after the archive's name where there are several, control
    characters and bytes that are no text escaped; ids follow their sorted order, so that a folder and an archive of it
    have the same ids. Links are followed, in archives too. An image's label is the name of the folder that it lies in,
    None at the top; in shards (WebDataset) what the file of the same name with the suffix ``.cls`` says. Hidden files
    are passed over; everything else that is left out is listed in ``ignored``: files that are not images by their
    suffix, all but the last of several members of one name, links to nothing, pipes and devices, what leads out of the
    archive, what a damaged archive does not give.

    Raises:
        FileNotFoundError: The path does not exist.
        ValueError: There is no image in it, or it is neither an image nor an archive that can be read.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        text = os.fspath(path)
        self.name = printable(PurePosixPath(text if "://" in text else os.path.abspath(text)).name)
        self.place = path  # as it was given
        self._store = open_store(path)
        images, others = self._list()
        self.ignored = sorted(others + self._store.problems)
        if not images:
            why = "".join(f"; {key}: {reason}" for key, reason in self.ignored[:1])
            raise ValueError(f"open_source: expected data with at least one image file, got {path} with none{why}")
        pages = {(key if count == 1 else f"{key}#{page}"): (images[key], page)
                 for key, count in self._pages(images).items() for page in range(count)}  # fmt: skip
        self.keys = sorted(pages)
        self._places = [pages[key][0] for key in self.keys]
        self._page = [pages[key][1] for key in self.keys]
        ids = range(len(self.keys))
        self.order = sorted(ids, key=self._places.__getitem__) if self._store.seeks else ids

    def _list(self) -> tuple[dict[str, Any], list[tuple[str, str]]]:
        """The places of the images by key, and what else there is."""
        images: dict[str, Any] = {}
        others: list[tuple[str, str]] = []
        self._label_places: dict[str, Any] = {}
        sharded = isinstance(self._store, Shards)
        names: Counter[str] = Counter()
        for path, place in self._store.entries():
            suffix, key = PurePosixPath(path).suffix.lower(), printable(path)
            if suffix in SUFFIXES:
                names[key] += 1
                images[key] = place
            elif not sharded:
                others.append((key, "not an image by its suffix"))
            elif suffix == LABEL_SUFFIX:  # a shard describes its images in many files
                self._label_places[_sample(key)] = place
        for key in [key for key, count in names.items() if count > 1]:  # none of them, rather than any of them
            del images[key]
            others += [(key, "another file's name is the same once it is printable")] * names[key]
        return images, others

    def _pages(self, images: dict[str, Any]) -> dict[str, int]:
        """How many pages each file has; a TIFF file has to be opened for that."""
        return {key: self._count(key, place) for key, place in images.items()}

    def _count(self, key: str, place: Any) -> int:
        if PurePosixPath(key).suffix.lower() not in (".tif", ".tiff"):
            return 1
        try:
            return count_pages(self._store.read(place, MAX_FILE_BYTES))
        except Exception:  # noqa: BLE001  # it is listed when it is loaded
            return 1

    def marks(self) -> Iterator[object]:
        return map(self._store.mark, self._places)

    def load(self, image_id: int) -> tuple[Image.Image | np.ndarray, str | None]:
        try:
            data = self._store.read(self._places[image_id], MAX_FILE_BYTES + 1)
            if len(data) > MAX_FILE_BYTES:
                raise UnreadableImageError(f"larger than {MAX_FILE_BYTES >> 20} MiB")
            if PurePosixPath(self.keys[image_id]).suffix.lower() == ".npy":
                return read_array(data), self._label(image_id)
            picture = decode(data, mode=self.mode, deep=self.deep, page=self._page[image_id])
            return picture, self._label(image_id)
        except UnreadableImageError:
            raise
        except Exception as error:  # of decoders and archive readers on broken files
            raise UnreadableImageError(reason_of(error)) from error

    def _label(self, image_id: int) -> str | None:
        key = self.keys[image_id]
        place = self._label_places.get(_sample(key))
        if place is not None:
            return (
                printable(self._store.read(place, MAX_LABEL_BYTES).decode("utf-8", "surrogateescape").strip()) or None
            )
        folders = PurePosixPath(self._store.inside(key, self._places[image_id])).parts[:-1]
        return folders[-1] if folders else None


def _sample(key: str) -> str:
    """What the files of one sample of a WebDataset have in common: the path up to the first dot of the name."""
    path = PurePosixPath(key)
    return str(path.parent / path.name.split(".", 1)[0])

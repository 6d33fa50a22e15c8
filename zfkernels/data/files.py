"""The images of a folder or an archive."""

from __future__ import annotations

import os
import struct
import warnings
from collections.abc import Iterator
from io import BytesIO
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from zfkernels.data.places import open_store
from zfkernels.data.source import ImageSource, UnreadableImageError
from zfkernels.data.stores import BROKEN_ARCHIVE, Shards

# Only these decoders run on what may be anybody's files; Pillow has others that start external programs.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "JPEG2000", "AVIF")
SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".jpe", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".jp2", ".j2k", ".avif")
)
MAX_FILE_BYTES = 1 << 28
LABEL_SUFFIX, MAX_LABEL_BYTES = ".cls", 1 << 12  # what a WebDataset says of the class of the image of the same name

# What Pillow's decoders and the archive readers raise on broken files.
DECODING_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    LookupError,
    ArithmeticError,
    RuntimeError,
    struct.error,
    *BROKEN_ARCHIVE,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)


class ImageFiles(ImageSource):
    """The images in a folder and its subfolders, in an archive (zip or tar, also compressed), or in several archives.

    The path of one image file is a source of one image; several archives are named by a pattern
    (``shards-{000..012}.tar``), or as a folder of tar files; addresses such as ``s3://bucket/photos`` go through
    fsspec.

    Keys are the paths inside the folder or archive, after the archive's name where there are several; ids follow their
    sorted order, so that a folder and an archive of it have the same ids. An image's label is the name of the folder
    that it lies in, None at the top; in shards (WebDataset) what the file of the same name with the suffix ``.cls``
    says. Hidden files are passed over; other files that are not images by their suffix are listed in ``ignored``.

    Raises:
        FileNotFoundError: The path does not exist.
        ValueError: There is no image in it, or it is neither an image nor an archive that can be read.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.name = PurePosixPath(os.path.abspath(path) if "://" not in os.fspath(path) else os.fspath(path)).name
        self.place = path  # as it was given
        self._store = open_store(path)
        sharded = isinstance(self._store, Shards)
        images, ignored = {}, []
        self._label_places: dict[str, Any] = {}
        for key, place in self._store.entries():
            name = PurePosixPath(key)
            if any(part.startswith(".") or part == "__MACOSX" for part in name.parts):
                continue
            if name.suffix.lower() in SUFFIXES:
                images[key] = place
            elif sharded:  # a shard describes its images in many files
                if name.suffix == LABEL_SUFFIX:
                    self._label_places[_sample(key)] = place
            else:
                ignored.append((key, "not an image by its suffix"))
        if not images:
            raise ValueError(f"open_source: expected data with at least one image file, got {path} with none")
        self.keys = sorted(images)
        self.ignored = sorted(ignored + self._store.problems)
        self._places = [images[key] for key in self.keys]
        ids = range(len(self.keys))
        self.order = sorted(ids, key=self._places.__getitem__) if self._store.seeks else ids
        self._depth = 1 if sharded else 0

    def marks(self) -> Iterator[object]:
        return map(self._store.mark, self._places)

    def load(self, image_id: int) -> tuple[Image.Image, str | None]:
        try:
            data = self._store.read(self._places[image_id], MAX_FILE_BYTES + 1)
            if len(data) > MAX_FILE_BYTES:
                raise UnreadableImageError(f"larger than {MAX_FILE_BYTES >> 20} MiB")
            return _decode(data), self._label(self.keys[image_id])
        except UnreadableImageError:
            raise
        except DECODING_ERRORS as error:
            raise UnreadableImageError(reason_of(error)) from error

    def _label(self, key: str) -> str | None:
        place = self._label_places.get(_sample(key))
        if place is not None:
            return self._store.read(place, MAX_LABEL_BYTES).decode("utf-8", "backslashreplace").strip() or None
        folders = PurePosixPath(key).parts[self._depth : -1]
        return folders[-1] if folders else None


def _sample(key: str) -> str:
    """What the files of one sample of a WebDataset have in common: the path up to the first dot of the name."""
    path = PurePosixPath(key)
    return str(path.parent / path.name.split(".", 1)[0])


def reason_of(error: BaseException) -> str:
    """Why an image cannot be used, in one line."""
    if isinstance(error, OSError) and error.strerror:  # without the path, so that equal reasons are counted together
        return error.strerror
    return str(error).strip().split("\n")[0] or type(error).__name__


def _decode(data: bytes) -> Image.Image:
    """The first frame of an image file, in RGB; an alpha channel is dropped."""
    if not data:
        raise UnreadableImageError("empty file")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # remarks on odd metadata do not concern the pixels
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            image: Image.Image = Image.open(BytesIO(data), formats=FORMATS)
        except Image.UnidentifiedImageError as error:
            raise UnreadableImageError("not an image file") from error
        image.load()
        if image.mode == "F":
            raise UnreadableImageError("floating-point pixels without a known range")
        if image.mode.startswith("I"):
            # 16-bit grey, which Pillow would clip to 255 instead of scaling it.
            image = Image.fromarray((np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8))
        return image.convert("RGB")

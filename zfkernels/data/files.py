"""The images of a folder or an archive."""

from __future__ import annotations

import os
import struct
import warnings
from io import BytesIO
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from zfkernels.data.source import ImageSource, UnreadableImageError
from zfkernels.data.stores import BROKEN_ARCHIVE, open_store

# Only these decoders run on what may be anybody's files; Pillow has others that start external programs.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "JPEG2000", "AVIF")
SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".jpe", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".jp2", ".j2k", ".avif")
)
MAX_FILE_BYTES = 1 << 28

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
    """The images in a folder and its subfolders, in a ``.zip`` or ``.tar`` archive (also ``.tar.gz`` and the like).

    The path of one image file is a source of one image.

    Keys are the paths inside the folder or archive; ids follow their sorted order, so that a folder and an archive of
    it have the same ids. An image's label is the name of the folder that it lies in, None at the top. Hidden files are
    passed over; other files that are not images by their suffix are listed in ``ignored``.

    Raises:
        FileNotFoundError: The path does not exist.
        ValueError: There is no image in it, or it is neither an image nor an archive that can be read.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        path = Path(path)
        self.name = path.resolve().name
        self._store = open_store(path)
        images, ignored = {}, []
        for key, place in self._store.entries():
            parts = PurePosixPath(key).parts
            if any(part.startswith(".") or part == "__MACOSX" for part in parts):
                continue
            if PurePosixPath(key).suffix.lower() in SUFFIXES:
                images[key] = place
            else:
                ignored.append((key, "not an image by its suffix"))
        if not images:
            raise ValueError(f"open_source: expected data with at least one image file, got {path} with none")
        self.keys = sorted(images)
        self.ignored = sorted(ignored + self._store.problems)
        self._places = [images[key] for key in self.keys]
        ids = range(len(self.keys))
        self.order = sorted(ids, key=self._places.__getitem__) if self._store.seeks else ids

    def load(self, image_id: int) -> tuple[Image.Image, str | None]:
        try:
            data = self._store.read(self._places[image_id], MAX_FILE_BYTES + 1)
            if len(data) > MAX_FILE_BYTES:
                raise UnreadableImageError(f"larger than {MAX_FILE_BYTES >> 20} MiB")
            image = _decode(data)
        except UnreadableImageError:
            raise
        except DECODING_ERRORS as error:
            raise UnreadableImageError(str(error) or type(error).__name__) from error
        return image, PurePosixPath(self.keys[image_id]).parent.name or None


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

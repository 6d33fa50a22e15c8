"""Where Pillow opens files: by formats that are named, up to a size that is bounded."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from io import BytesIO
from typing import BinaryIO

import numpy as np
from PIL import EpsImagePlugin, Image

from zfkernels.data.source import UnreadableImageError

# Only these decoders run on what may be anybody's files; Pillow has others that start external programs.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "JPEG2000", "AVIF")
MAX_PIXELS = (1 << 30) // 12  # of one picture: Pillow's own limit, which any program may lift


def open_picture(
    file: str | os.PathLike[str] | BinaryIO,
    formats: Sequence[str] = FORMATS,
    max_pixels: int = MAX_PIXELS,
    page: int = 0,
) -> Image.Image:
    """One frame of a picture, decoded; the file is closed.

    Args:
        file: A path or an open binary file.
        formats: Pillow's names of the formats that it may have. What the file is called says nothing.
        max_pixels: Width times height that are accepted; checked before anything is decoded.
        page: Which frame, from 0.

    Raises:
        UnreadableImageError: It has none of the formats, or is too large.
        Exception: What Pillow's decoders raise on broken files, which is not a fixed list.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # remarks on odd metadata do not concern the pixels; the size is checked here
        try:
            with Image.open(file, formats=list(formats)) as picture:
                if page:
                    picture.seek(page)
                width, height = picture.size
                if width * height > max_pixels:
                    raise UnreadableImageError(f"decompression bomb: {width}x{height} pixels, at most {max_pixels:,}")
                picture.load()
        except Image.UnidentifiedImageError as error:
            raise UnreadableImageError("not an image file") from error
        except Image.DecompressionBombError as error:
            raise UnreadableImageError(f"decompression bomb: {error}") from error
    return picture


def start_no_programs() -> None:
    """Keeps Pillow from starting Ghostscript in this process: a data set of somebody else's may open any format."""
    EpsImagePlugin.gs_binary = False


def decode(
    data: bytes, *, mode: str = "RGB", deep: bool = False, page: int = 0, max_pixels: int = MAX_PIXELS
) -> Image.Image:
    """One page of an image file, as :func:`as_mode` makes it.

    Args:
        data: The file.
        mode, deep: See there.
        page: Which page, from 0.
        max_pixels: Width times height that are accepted.

    Raises:
        UnreadableImageError: No image that can be shown in this mode.
        Exception: As of ``open_picture``.
    """
    if not data:
        raise UnreadableImageError("empty file")
    return as_mode(open_picture(BytesIO(data), max_pixels=max_pixels, page=page), mode, deep)


def as_mode(picture: Image.Image, mode: str, deep: bool) -> Image.Image:
    """A picture in a mode of Pillow's; an alpha channel that the mode has not is dropped.

    Pictures of more than 8 bits and of floating-point numbers stay as they are if ``deep``; otherwise the upper 8 of 16
    bits are taken.

    Raises:
        UnreadableImageError: Floating-point pixels, and not ``deep``.
    """
    if picture.mode == "F" or picture.mode.startswith("I"):
        if deep:
            return picture
        if picture.mode == "F":
            raise UnreadableImageError("floating-point pixels without a known range")
        # 16-bit grey, which Pillow would clip to 255 instead of scaling it.
        picture = Image.fromarray((np.asarray(picture).clip(0, 65535) >> 8).astype(np.uint8))
    return picture.convert(mode)


def count_pages(data: bytes) -> int:
    """How many pages a TIFF file has; 1 where that cannot be told, which loading it will say."""
    try:
        with Image.open(BytesIO(data), formats=["TIFF"]) as picture:
            return getattr(picture, "n_frames", 1)
    except Exception:  # noqa: BLE001  # what Pillow's decoders raise on broken files is not a fixed list
        return 1

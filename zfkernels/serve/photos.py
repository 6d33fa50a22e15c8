"""The photos that can be looked at: those of a data set, those of a gallery, and those that were dropped on the page.

An id says where a photo comes from: ``data-12``, ``gallery-12``, ``dropped-`` and a hash. Ids are looked up, never made
into a path.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from zfkernels.data import ImageSource
from zfkernels.data.names import printable
from zfkernels.data.pictures import decode
from zfkernels.data.source import UnreadableImageError, reason_of
from zfkernels.models import Preprocess
from zfkernels.serve.budget import Budget

if TYPE_CHECKING:
    from zfkernels.serve.winners import Winners

PHOTO_BYTES = 1 << 26  # of photos, as the network takes them
MAX_PIXELS = 50_000_000  # of a picture that is dropped
LONGEST_NAME = 120


class UnknownPhotoError(LookupError):
    """There is no photo of this id, or no longer; the message says which."""


@dataclass(frozen=True)
class Photo:
    """A photo as a network takes it.

    Attributes:
        id: See above.
        name: Its path in the data set, or the name of the file that was dropped.
        label: Its label, where there is one.
        image: float32 [1, 3, H, W].
        note: What there is to know of it, "" as a rule.
    """

    id: str
    name: str
    label: str | None
    image: Tensor
    note: str = ""


class Photos:
    """Photos by id; safe in threads.

    Args:
        preprocess: From a picture to what the network takes.
        source: A data set to choose from, or None.
        winners: A gallery whose winners can be opened, or None.
        budget: Bytes of dropped photos that are kept, and of others.
    """

    def __init__(
        self,
        preprocess: Preprocess,
        source: ImageSource | None = None,
        winners: Winners | None = None,
        budget: int = PHOTO_BYTES,
    ) -> None:
        self.preprocess, self.source, self.winners = preprocess, source, winners
        self._dropped: Budget[Photo] = Budget(budget)
        self._opened: Budget[Photo] = Budget(budget)

    def drop(self, data: bytes, name: str) -> Photo:
        """Takes in a picture file.

        Raises:
            UnreadableImageError: It is no picture that can be used; the message is the reason.
        """
        image = self._prepared(data)
        key = f"dropped-{hashlib.sha256(image.numpy().tobytes()).hexdigest()[:16]}"
        photo = Photo(key, printable(name)[:LONGEST_NAME] or "dropped", None, image)
        self._dropped.put(key, photo, image.nbytes)
        return photo

    def get(self, photo: str) -> Photo:
        """The photo of an id.

        Raises:
            UnknownPhotoError: There is none.
            UnreadableImageError: It cannot be read.
        """
        origin, _, number = photo.partition("-")
        found = (self._dropped if origin == "dropped" else self._opened).get(photo)
        if found is None and origin == "dropped":
            raise UnknownPhotoError("this photo was dropped here once and is no longer held; drop it again")
        if found is None:
            found = self._open(photo, origin, number)
            self._opened.put(photo, found, found.image.nbytes)
        return found

    def _open(self, photo: str, origin: str, number: str) -> Photo:
        if origin == "data" and self.source is not None:
            return self._of_source(self.source, photo, number)
        if origin == "gallery" and self.winners is not None and number.isascii() and number.isdigit():
            pixels, name = self.winners.picture(int(number[:12]))
            note = "the gallery's own copy of the photo, compressed: values differ"
            return Photo(photo, name, None, self._normalised(pixels)[None], note)
        raise UnknownPhotoError("there is no such photo")

    def _of_source(self, source: ImageSource, photo: str, number: str) -> Photo:
        place = int(number[:12]) if number.isascii() and number.isdigit() else -1
        if not 0 <= place < len(source.keys):
            raise UnknownPhotoError("there is no such photo")
        try:
            picture, label = source.load(place)
            image = picture if isinstance(picture, Tensor) else self.preprocess(picture)
        except Exception as error:  # of decoders on broken files, and of anybody's preprocessing
            raise UnreadableImageError(reason_of(error)) from error
        return Photo(photo, source.keys[place], label, image[None])

    def _prepared(self, data: bytes) -> Tensor:
        try:
            return self.preprocess(decode(data, max_pixels=MAX_PIXELS))[None]
        except UnreadableImageError:
            raise
        except Exception as error:  # of decoders on broken files
            raise UnreadableImageError(reason_of(error)) from error

    def _normalised(self, pixels: Tensor) -> Tensor:
        """What the network takes, of pixels uint8 [3, H, W] that have its size already."""
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (self.preprocess.mean, self.preprocess.std))
        return (pixels.float() / 255 - mean) / std

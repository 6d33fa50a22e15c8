"""What a source of images is."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from zfkernels.data.names import printable

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image


class UnreadableImageError(ValueError):
    """One image of a source cannot be used; the message is the reason."""


def reason_of(error: BaseException) -> str:
    """Why an image cannot be used, in one line."""
    if isinstance(error, OSError) and error.strerror:  # without the path, so that equal reasons are counted together
        return error.strerror
    text, kind = printable(str(error).strip().split("\n")[0]), type(error).__name__
    if not text:
        return kind
    return text if isinstance(error, (OSError, ValueError)) else f"{kind}: {text}"


class ImageSource(ABC):
    """Images under stable ids: an image's id is its index in ``keys``, whatever the order in which they are read.

    Attributes:
        name: Where the images come from, in words.
        keys: Path or key of each image, printable, unique.
        order: The ids to read, in the order in which they are cheapest to read.
        ignored: (key, reason) of what the source holds beside images.
        tensor_size: Height and width of the images of a source of tensors; None for a source of pictures.
        random_access: Any image can be loaded at any time; otherwise see ``IterableSource``.
        channels: Of the images of a source of tensors.
        groups: Of each image by id the number of the thing that it shows, where several show the same one, such as
            crops of a photo: a gallery keeps one winner of each. None: each image shows its own.
        mode: Pillow's mode that pictures of up to 8 bits are given in.
        deep: Pictures of more bits, and of floating-point numbers, are given as they are; otherwise their upper 8 bits
            are, and the latter are refused.
    """

    name: str
    keys: Sequence[str]
    order: Sequence[int]
    ignored: Sequence[tuple[str, str]] = ()
    tensor_size: tuple[int, int] | None = None
    channels: int = 3
    groups: Sequence[int] | None = None
    mode: str = "RGB"
    deep: bool = False
    random_access = True

    @property
    def count(self) -> int | None:
        """How many images there are to read, those that turn out unusable included; None where nobody knows that."""
        return len(self.order)

    def digest(self) -> str:
        """SHA-256 of what is known of the images without decoding them: names, sizes, times or checksums, and order."""
        digest = hashlib.sha256()
        for part in (*self.keys, *self.order, *self.marks()):
            digest.update(f"{part}\n".encode())
        return digest.hexdigest()

    def marks(self) -> Iterable[object]:
        """What tells the images from others of the same names, by id."""
        return ()

    def limit(self, count: int) -> None:
        """Leaves ``count`` images to read, evenly spaced by id, or all if there are fewer; ids stay as they are.

        Raises:
            ValueError: ``count`` below 1.
        """
        if count < 1:
            raise ValueError(f"limit: expected count ≥ 1, got {count}")
        total = len(self.keys)
        kept = {n * total // count for n in range(count)} if count < total else range(total)
        self.order = [image_id for image_id in self.order if image_id in kept]

    def __len__(self) -> int:
        return len(self.order)

    @abstractmethod
    def load(self, image_id: int) -> tuple[Image.Image | np.ndarray | Tensor, str | None]:
        """One image, as a picture, an array, or a tensor that is ready for the network, and its label.

        Raises:
            UnreadableImageError: The image cannot be used, whatever was raised by what reads it.
        """

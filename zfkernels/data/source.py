"""What a source of images is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from PIL import Image


class UnreadableImageError(ValueError):
    """One image of a source cannot be used; the message is the reason."""


class ImageSource(ABC):
    """Images under stable ids: an image's id is its index in ``keys``, whatever the order in which they are read.

    Attributes:
        name: Where the images come from, in words.
        keys: Path or key of each image, printable, unique.
        order: The ids in the order in which they are cheapest to read.
        ignored: (key, reason) of what the source holds beside images.
        tensor_size: Height and width of the images of a source of tensors; None for a source of pictures.
    """

    name: str
    keys: Sequence[str]
    order: Sequence[int]
    ignored: Sequence[tuple[str, str]] = ()
    tensor_size: tuple[int, int] | None = None

    def __len__(self) -> int:
        return len(self.keys)

    @abstractmethod
    def load(self, image_id: int) -> tuple[Image.Image | Tensor, str | None]:
        """One image, as an RGB picture or as a tensor that is ready for the network, and its label.

        Raises:
            UnreadableImageError: The image cannot be used.
        """

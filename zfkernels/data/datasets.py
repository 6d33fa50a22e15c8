"""A data set as a source of images."""

from __future__ import annotations

from collections.abc import Sized
from typing import Any

from PIL import Image
from torch import Tensor

from zfkernels.data.files import DECODING_ERRORS
from zfkernels.data.source import ImageSource, UnreadableImageError


class DatasetSource(ImageSource):
    """A map-style data set; an image's id is its index.

    Items are pictures (``PIL.Image``) or float tensors [3, H, W], the latter already normalised and all of one size; or
    a tuple that begins with (image, label). Integer labels are looked up in ``dataset.classes`` where there is one.

    Raises:
        TypeError: The data set has no length, or its first item is neither a picture nor a tensor.
        ValueError: The data set is empty, or its first item is a tensor of another shape.
    """

    def __init__(self, dataset: Any) -> None:
        if not isinstance(dataset, Sized) or not hasattr(dataset, "__getitem__"):
            raise TypeError(f"open_source: expected data a path or a map-style data set, got {type(dataset).__name__}")
        if len(dataset) == 0:
            raise ValueError("open_source: expected data with at least one image, got an empty data set")
        self.dataset = dataset
        self.name = type(dataset).__name__
        self.keys = [str(index) for index in range(len(dataset))]
        self.order = range(len(dataset))
        first = self._item(0)[0]
        if isinstance(first, Tensor):
            if first.dim() != 3 or first.shape[0] != 3 or not first.is_floating_point():
                raise ValueError(
                    "open_source: expected data whose items are pictures or float tensors of shape (3, H, W), "
                    f"got {first.dtype} of shape {tuple(first.shape)}"
                )
            self.tensor_size = (first.shape[1], first.shape[2])

    def load(self, image_id: int) -> tuple[Image.Image | Tensor, str | None]:
        try:
            image, label = self._item(image_id)
        except DECODING_ERRORS as error:
            raise UnreadableImageError(str(error) or type(error).__name__) from error
        if isinstance(image, Tensor) and image.shape != (3, *(self.tensor_size or ())):
            raise UnreadableImageError(f"shape {tuple(image.shape)} instead of {(3, *(self.tensor_size or ()))}")
        return image, label

    def _item(self, index: int) -> tuple[Image.Image | Tensor, str | None]:
        item = self.dataset[index]
        image, label = (*item, None)[:2] if isinstance(item, (tuple, list)) else (item, None)
        if not isinstance(image, (Image.Image, Tensor)):
            raise TypeError(
                f"open_source: expected data whose items are pictures or tensors, got {type(image).__name__}"
            )
        if isinstance(image, Image.Image):
            image = image.convert("RGB")
        return image, self._label(label)

    def _label(self, label: Any) -> str | None:
        if isinstance(label, Tensor) and label.numel() == 1:
            label = label.item()
        classes = getattr(self.dataset, "classes", None)
        if isinstance(label, int) and classes is not None and 0 <= label < len(classes):
            label = classes[label]
        return None if label is None else str(label)

"""Data sets, map-style and iterable, as sources of images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Sized
from typing import Any

from PIL import Image
from torch import Tensor

from zfkernels.data.files import DECODING_ERRORS, reason_of
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
        self.tensor_size = _tensor_size(self._item(0)[0])

    def load(self, image_id: int) -> tuple[Image.Image | Tensor, str | None]:
        try:
            image, label = self._item(image_id)
        except DECODING_ERRORS as error:
            raise UnreadableImageError(reason_of(error)) from error
        _check_shape(image, self.tensor_size)
        return image, label

    def _item(self, index: int) -> tuple[Image.Image | Tensor, str | None]:
        return _image_and_label(self.dataset[index], self.dataset)


class IterableSource(ImageSource):
    """A data set that can only be walked through, such as ``torch.utils.data.IterableDataset`` or WebDataset's.

    An image's id is its place in the walk. The data set is walked once for each pass and once more from the start after
    an interruption, so that it has to give the same images in the same order each time. Items as for ``DatasetSource``.

    Raises:
        TypeError: It can be walked through only once, or the first item is neither a picture nor a tensor.
        ValueError: The data set is empty, or its first item is a tensor of another shape.
    """

    random_access = False

    def __init__(self, dataset: Any) -> None:
        items = iter(dataset)
        if items is dataset:
            raise TypeError(
                "open_source: expected data that can be walked through more than once, got an iterator "
                f"({type(dataset).__name__})"
            )
        self.dataset = dataset
        self.name = type(dataset).__name__
        self.keys = _Counted()
        self.order = ()
        for item in items:
            self.tensor_size = _tensor_size(_image_and_label(item, dataset)[0])
            return
        raise ValueError("open_source: expected data with at least one image, got an empty data set")

    @property
    def count(self) -> int | None:
        return self._limit

    _limit: int | None = None

    def limit(self, count: int) -> None:
        """Leaves the first ``count`` images."""
        if count < 1:
            raise ValueError(f"limit: expected count ≥ 1, got {count}")
        self._limit = count

    def digest(self) -> str:
        return f"a walk of {'unknown length' if self._limit is None else f'{self._limit} images'}"

    def walk(self) -> Iterator[Any]:
        """The items of one walk; ``unpack`` makes images of them."""
        items = iter(self.dataset)
        done = 0
        while self._limit is None or done < self._limit:
            try:
                item = next(items)
            except StopIteration:
                return
            except DECODING_ERRORS as error:  # the walk cannot be trusted to go on behind it
                raise RuntimeError(f"stream: {self.name} broke off after {done} images: {reason_of(error)}") from error
            yield item
            done += 1

    def unpack(self, item: Any) -> tuple[Image.Image | Tensor, str | None]:
        """The image and the label of an item.

        Raises:
            UnreadableImageError: It is no image that fits.
        """
        try:
            image, label = _image_and_label(item, self.dataset)
        except (TypeError, *DECODING_ERRORS) as error:
            raise UnreadableImageError(reason_of(error)) from error
        _check_shape(image, self.tensor_size)
        return image, label

    def load(self, image_id: int) -> tuple[Image.Image | Tensor, str | None]:
        """Walks there, which takes as long as that takes."""
        for place, item in enumerate(self.walk()):
            if place == image_id:
                return self.unpack(item)
        raise UnreadableImageError("the walk ended before it")


class _Counted(Sequence[str]):
    """Keys of images that have only a number."""

    def __getitem__(self, index: Any) -> Any:
        return str(index)

    def __len__(self) -> int:
        return 0


def _image_and_label(item: Any, dataset: Any) -> tuple[Image.Image | Tensor, str | None]:
    image, label = (*item, None)[:2] if isinstance(item, (tuple, list)) else (item, None)
    if not isinstance(image, (Image.Image, Tensor)):
        raise TypeError(f"open_source: expected data whose items are pictures or tensors, got {type(image).__name__}")
    if isinstance(image, Image.Image):
        image = image.convert("RGB")
    if isinstance(label, Tensor) and label.numel() == 1:
        label = label.item()
    classes = getattr(dataset, "classes", None)
    if isinstance(label, int) and classes is not None and 0 <= label < len(classes):
        label = classes[label]
    return image, None if label is None else str(label)


def _tensor_size(first: Image.Image | Tensor) -> tuple[int, int] | None:
    """Height and width of a source of tensors, None for one of pictures."""
    if not isinstance(first, Tensor):
        return None
    if first.dim() != 3 or first.shape[0] != 3 or not first.is_floating_point():
        raise ValueError(
            "open_source: expected data whose items are pictures or float tensors of shape (3, H, W), "
            f"got {first.dtype} of shape {tuple(first.shape)}"
        )
    return first.shape[1], first.shape[2]


def _check_shape(image: Image.Image | Tensor, size: tuple[int, int] | None) -> None:
    if isinstance(image, Tensor) != (size is not None):
        raise UnreadableImageError(f"a {'tensor' if size is None else 'picture'} among others that are none")
    if isinstance(image, Tensor) and image.shape != (3, *(size or ())):
        raise UnreadableImageError(f"shape {tuple(image.shape)} instead of {(3, *(size or ()))}")

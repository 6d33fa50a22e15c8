"""Data sets, map-style and iterable, as sources of images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from functools import partial
from itertools import islice
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from zfkernels.data.names import printable
from zfkernels.data.source import ImageSource, UnreadableImageError, reason_of

TRIED = 100  # items that are tried until one says what the data set holds


class DatasetSource(ImageSource):
    """A map-style data set; an image's id is its index.

    Items are pictures (``PIL.Image``) or float tensors [3, H, W], the latter already normalised and all of one size; or
    a tuple that begins with (image, label). Integer labels are looked up in ``dataset.classes`` where there is one. An
    item that raises, whatever it is, is an image that cannot be used.

    Raises:
        TypeError: The data set has no length, or its first item that can be read is neither a picture nor a tensor.
        ValueError: The data set is empty, none of its first 100 items can be read, or the first one that can is a
            tensor of another shape.
    """

    def __init__(self, dataset: Any) -> None:
        if not isinstance(dataset, Sized) or not hasattr(dataset, "__getitem__"):
            raise TypeError(f"open_source: expected data a path or a map-style data set, got {type(dataset).__name__}")
        self.dataset = dataset
        self.name = type(dataset).__name__
        self.keys = [str(index) for index in range(len(dataset))]
        self.order = range(len(dataset))
        self.tensor_size = _tensor_size((partial(self._item, index) for index in self.order), dataset)

    def load(self, image_id: int) -> tuple[Image.Image | Tensor, str | None]:
        return _unpacked(self._item(image_id), self.dataset, self.tensor_size)

    def _item(self, index: int) -> Any:
        try:
            return self.dataset[index]
        except Exception as error:  # of anybody's code; a StopIteration would end the whole stream
            raise UnreadableImageError(reason_of(error)) from error


class IterableSource(ImageSource):
    """A data set that can only be walked through, such as ``torch.utils.data.IterableDataset`` or WebDataset's.

    An image's id is its place in the walk. The data set is walked once for each pass and once more from the start after
    an interruption, so that it has to give the same images in the same order each time. Items as for ``DatasetSource``.
    Where the data set has a length, a walk that gives fewer images or more is an error.

    Attributes:
        walked: How many images the last walk through ``stream`` gave that came to its end; None before.

    Raises:
        TypeError: It can be walked through only once, or its first item is neither a picture nor a tensor.
        ValueError: As of ``DatasetSource``.
        RuntimeError: It breaks off before the first item.
    """

    random_access = False
    walked: int | None = None

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
        self.length = _length(dataset)
        self.tensor_size = _tensor_size((partial(_same, item) for item in self._checked(items)), dataset)

    @property
    def count(self) -> int | None:
        return min((n for n in (self.length, self._limit) if n is not None), default=None)

    _limit: int | None = None

    def limit(self, count: int) -> None:
        """Leaves the first ``count`` images."""
        if count < 1:
            raise ValueError(f"limit: expected count ≥ 1, got {count}")
        self._limit = count

    def digest(self) -> str:
        return f"a walk of {'unknown length' if self._limit is None else f'{self._limit} images'}"

    def walk(self) -> Iterator[Any]:
        """The items of one walk; ``unpack`` makes images of them.

        Raises:
            RuntimeError: It breaks off, or gives fewer items or more than the data set's length says.
        """
        try:
            items = iter(self.dataset)
        except Exception as error:
            raise RuntimeError(f"stream: {self.name} broke off before the first image: {reason_of(error)}") from error
        return self._checked(items)

    def _checked(self, items: Iterator[Any]) -> Iterator[Any]:
        done = 0
        while self._limit is None or done < self._limit:
            try:
                item = next(items)
            except StopIteration:
                break
            except Exception as error:  # the walk cannot be trusted to go on behind it
                raise RuntimeError(f"stream: {self.name} broke off after {done} images: {reason_of(error)}") from error
            if done == self.length:
                raise RuntimeError(f"stream: {self.name} gives more images than the {self.length} of its length")
            yield item
            done += 1
        if self.count is not None and self.length is not None and done < self.count:
            raise RuntimeError(f"stream: {self.name} gave {done} images, its length says {self.length}")

    def unpack(self, item: Any) -> tuple[Image.Image | Tensor, str | None]:
        """The image and the label of an item.

        Raises:
            UnreadableImageError: It is no image that fits.
        """
        return _unpacked(item, self.dataset, self.tensor_size)

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


def _length(dataset: Any) -> int | None:
    """The length that a data set says it has."""
    if not isinstance(dataset, Sized):
        return None
    try:
        return len(dataset)
    except TypeError:  # how PyTorch's and WebDataset's classes say that it is unknown
        return None


def _same(item: Any) -> Any:
    return item


class _NoImageError(TypeError):
    """An item is neither a picture nor a tensor."""


def _unpacked(item: Any, dataset: Any, size: tuple[int, int] | None) -> tuple[Image.Image | Tensor, str | None]:
    """The image of an item, of the kind and size that the data set's others are, and its label."""
    try:
        image, label = _image_and_label(item, dataset)
    except _NoImageError as error:
        raise UnreadableImageError(str(error)) from error
    if isinstance(image, Tensor) != (size is not None):
        raise UnreadableImageError(f"a {'tensor' if size is None else 'picture'} among others that are none")
    if isinstance(image, Tensor):
        if image.shape != (3, *(size or ())):
            raise UnreadableImageError(f"shape {tuple(image.shape)} instead of {(3, *(size or ()))}")
        if not image.is_floating_point() or image.layout != torch.strided:
            raise UnreadableImageError(f"a tensor of {image.dtype}, {image.layout} instead of floating-point numbers")
    return image, label


def _image_and_label(item: Any, dataset: Any) -> tuple[Image.Image | Tensor, str | None]:
    """The image and the label of an item.

    Raises:
        _NoImageError: There is no image in it.
        UnreadableImageError: The picture, which may be read only now, or the label cannot be used.
    """
    image, label = (*item, None)[:2] if isinstance(item, (tuple, list)) else (item, None)
    if not isinstance(image, (Image.Image, Tensor)):
        raise _NoImageError(
            f"open_source: expected data whose items are pictures or tensors, got {type(image).__name__}"
        )
    try:
        # A tensor that belongs to a graph cannot travel between processes.
        image = image.convert("RGB") if isinstance(image, Image.Image) else image.detach()
        if isinstance(label, Tensor) and label.numel() == 1:
            label = label.item()
        classes = getattr(dataset, "classes", None)
        if isinstance(label, int) and classes is not None and 0 <= label < len(classes):
            label = classes[label]
        return image, None if label is None else printable(str(label))
    except Exception as error:
        raise UnreadableImageError(reason_of(error)) from error


def _tensor_size(items: Iterable[Callable[[], Any]], dataset: Any) -> tuple[int, int] | None:
    """Height and width of a source of tensors, None for one of pictures: as of the first item that can be read."""
    reasons = []
    for get in islice(items, TRIED):
        try:
            first = _image_and_label(get(), dataset)[0]
        except UnreadableImageError as error:
            reasons.append(str(error))
            continue
        if isinstance(first, Image.Image):
            return None
        if first.dim() != 3 or first.shape[0] != 3 or not first.is_floating_point():
            raise ValueError(
                "open_source: expected data whose items are pictures or float tensors of shape (3, H, W), "
                f"got {first.dtype} of shape {tuple(first.shape)}"
            )
        return first.shape[1], first.shape[2]
    if not reasons:
        raise ValueError("open_source: expected data with at least one image, got an empty data set")
    raise ValueError(
        f"open_source: expected data with images that can be read, got none in the first {len(reasons)}: {reasons[0]}"
    )

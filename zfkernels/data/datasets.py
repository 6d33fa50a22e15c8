"""Data sets, map-style and iterable, as sources of images."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from zfkernels.data.names import printable
from zfkernels.data.pictures import as_mode
from zfkernels.data.source import ImageSource, UnreadableImageError, reason_of

TRIED = 100  # items that are tried until one says what the data set holds


class DatasetSource(ImageSource):
    """A map-style data set; an image's id is its index.

    Items are pictures (``PIL.Image``), NumPy arrays, or float tensors [C, H, W], the latter ready for the network and
    all of one size; or a tuple that begins with (image, label); or a dict, with the image under "image", "img",
    "pixel_values", "input" or "x" (or the only picture, array or tensor of images in it) and the label under "label",
    "labels", "target", "class", "fine_label" or "y". Integer labels are looked up in ``dataset.classes``, or in the
    names that a data set of HuggingFace's has for them. An item that raises, whatever it is, is an image that cannot be
    used.

    Raises:
        TypeError: The data set has no length, or its first item that can be read has no image in it.
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
        _find_kind(self, (partial(self._item, index) for index in self.order))

    def load(self, image_id: int) -> tuple[Any, str | None]:
        return _unpacked(self._item(image_id), self)

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
        _find_kind(self, (partial(_same, item) for item in self._checked(items)))

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

    def unpack(self, item: Any) -> tuple[Any, str | None]:
        """The image and the label of an item.

        Raises:
            UnreadableImageError: It is no image that fits.
        """
        return _unpacked(item, self)

    def load(self, image_id: int) -> tuple[Any, str | None]:
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
    """An item has no image in it."""


IMAGES = ("image", "img", "pixel_values", "input", "x")
LABELS = ("label", "labels", "target", "class", "fine_label", "y")
Source = DatasetSource | IterableSource


def _unpacked(item: Any, source: Source) -> tuple[Any, str | None]:
    """The image of an item, of the kind and size that the source's others are, and its label."""
    try:
        image, label = _image_and_label(item, source)
    except _NoImageError as error:
        raise UnreadableImageError(str(error)) from error
    size = source.tensor_size
    if isinstance(image, Tensor) != (size is not None):
        raise UnreadableImageError(f"a {'tensor' if size is None else 'picture'} among others that are none")
    if isinstance(image, Tensor):
        expected = (source.channels, *(size or ()))
        if image.shape != expected:
            raise UnreadableImageError(f"shape {tuple(image.shape)} instead of {expected}")
        if not image.is_floating_point() or image.layout != torch.strided:
            raise UnreadableImageError(f"a tensor of {image.dtype}, {image.layout} instead of floating-point numbers")
    return image, label


def _image_and_label(item: Any, source: Source) -> tuple[Any, str | None]:
    """The image and the label of an item.

    Raises:
        _NoImageError: There is no image in it.
        UnreadableImageError: The picture, which may be read only now, or the label cannot be used.
    """
    image, label, key = _parts(item)
    if not _is_image(image):
        raise _NoImageError(
            f"open_source: expected data whose items are pictures or tensors, got {type(image).__name__}"
        )
    try:
        if isinstance(image, Image.Image):
            image = as_mode(image, source.mode, source.deep)
        elif isinstance(image, Tensor):
            image = image.detach()  # what belongs to a graph cannot travel between processes
        if isinstance(label, (Tensor, np.generic, np.ndarray)) and math.prod(label.shape) == 1:
            label = label.item()
        classes = _classes(source.dataset, key)
        if isinstance(label, int) and classes is not None and 0 <= label < len(classes):
            label = classes[label]
        return image, None if label is None else printable(str(label))
    except UnreadableImageError:
        raise
    except Exception as error:
        raise UnreadableImageError(reason_of(error)) from error


def _parts(item: Any) -> tuple[Any, Any, str]:
    """The image of an item, its label (None: it has none), and the label's name."""
    if isinstance(item, (tuple, list)):
        image, label = (*item, None, None)[:2]
        return image, label, "label"
    if not isinstance(item, Mapping):
        return item, None, "label"
    image = next((item[key] for key in IMAGES if key in item), None)
    if image is None:
        found = [value for value in item.values() if _is_image(value)]
        image = found[0] if len(found) == 1 else item
    key = next((key for key in LABELS if key in item), "label")
    return image, item.get(key), key


def _is_image(value: Any) -> bool:
    if isinstance(value, (Tensor, np.ndarray)):
        return value.ndim in (2, 3)
    return isinstance(value, Image.Image)


def _classes(dataset: Any, key: str) -> Any:
    """The names of the classes that the labels under ``key`` are numbers of; None where nobody knows them."""
    features = getattr(dataset, "features", None)
    if isinstance(features, Mapping) and key in features:
        return getattr(features[key], "names", None)
    return getattr(dataset, "classes", None)


def _find_kind(source: Source, items: Iterable[Callable[[], Any]]) -> None:
    """Sets a source's size and channels if it is one of tensors, as of the first item that can be read."""
    reasons = []
    for get in islice(items, TRIED):
        try:
            first = _image_and_label(get(), source)[0]
        except UnreadableImageError as error:
            reasons.append(str(error))
            continue
        if not isinstance(first, Tensor):
            return
        if first.dim() != 3 or not first.is_floating_point():
            raise ValueError(
                "open_source: expected data whose items are pictures or float tensors of shape (C, H, W), "
                f"got {first.dtype} of shape {tuple(first.shape)}"
            )
        source.channels, source.tensor_size = first.shape[0], (first.shape[1], first.shape[2])
        return
    if not reasons:
        raise ValueError("open_source: expected data with at least one image, got an empty data set")
    raise ValueError(
        f"open_source: expected data with images that can be read, got none in the first {len(reasons)}: {reasons[0]}"
    )

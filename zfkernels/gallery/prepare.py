"""From whatever a source holds to what the network takes: which preprocessing, and of which shape its results are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from zfkernels.data import ImageSource, IterableSource, UnreadableImageError, reason_of
from zfkernels.data.patience import say_when_quiet
from zfkernels.gallery.show import MODES
from zfkernels.models import AnyPreprocess, Planes, Preprocess, as_preprocess, preprocess_of
from zfkernels.signed import warn_user

TRIED = 100  # images that are tried until one tells the shape of all


@dataclass(frozen=True)
class Prepared:
    """A preprocessing, all of whose results are of one shape.

    Attributes:
        function: What makes the network's input.
        shape: Channels, height and width of it.
    """

    function: AnyPreprocess
    shape: tuple[int, int, int]

    def __call__(self, image: Any) -> Tensor:  # float32 [C, H, W]
        """A picture or an array as the network takes it.

        Raises:
            ValueError: The result is of another shape than those of the other images.
        """
        value = self.function(image)
        if value.shape != self.shape:
            raise ValueError(f"prepared as {tuple(value.shape)}, where other images are {self.shape}")
        return value

    def record(self) -> Any:
        """What tells it from another one."""
        return self.function.record()


def prepare(
    source: ImageSource, model: nn.Module, given: Any, channels: int, say: Callable[[str], object]
) -> tuple[Prepared, Tensor]:
    """The preprocessing of a source's images, and one like the first of them that can be used, [C, H, W].

    Args:
        source: Of the images; what it gives pictures as is set.
        model: The network.
        given: The preprocessing that the caller has named, or None.
        channels: How many the network's first convolution takes.
        say: Called with a sentence when no image has come for a minute.

    Raises:
        TypeError: ``given`` is no function.
        ValueError: None of the first 100 images can be used.
    """
    source.mode = MODES.get(channels, "RGB")
    function = None if given is None else as_preprocess("build_gallery", given)
    source.deep = function is not None and not isinstance(function, Preprocess)
    if source.tensor_size is not None:
        shape = (source.channels, *source.tensor_size)
        return Prepared(function or preprocess_of(model), shape), torch.zeros(shape)
    first = ""
    for image_id, load in say_when_quiet(islice(_loads(source), TRIED), source.name, say):
        try:
            image = load()
            chosen = function or _default(model, image, channels)
            value = chosen(image)
        except Exception as error:  # noqa: BLE001  # of anybody's code; it is listed when the image is read again
            reason = str(error) if isinstance(error, UnreadableImageError) else reason_of(error)
            first = first or f"{source.keys[image_id]}: {reason}"
            continue
        if given is None and isinstance(chosen, Preprocess):
            _warn_of_enlarging(image, model, chosen)
        channels_, height, width = value.shape
        return Prepared(chosen, (channels_, height, width)), value
    raise ValueError(f"build_gallery: expected dataset with images that can be read, got none: {first}")


def _loads(source: ImageSource) -> Any:
    """For each image in order its id, and a function that returns it or raises what its loading raised."""
    if isinstance(source, IterableSource):
        return ((n, _tried(partial(source.unpack, item))) for n, item in enumerate(source.walk()))
    return ((n, _tried(partial(source.load, n))) for n in source.order)


def _tried(load: Callable[[], Any]) -> Callable[[], Any]:
    """Loads now; the function that is returned gives the image, or raises what went wrong."""
    try:
        image = load()[0]
    except Exception as error:  # noqa: BLE001  # of anybody's code; raised where the image is wanted
        return partial(_raise, error)
    return lambda: image


def _raise(error: Exception) -> None:
    raise error


def _default(model: nn.Module, image: Any, channels: int) -> AnyPreprocess:
    """What an image needs where the caller has not said it."""
    if isinstance(image, np.ndarray) or (channels != 3 and isinstance(image, Image.Image)):
        return Planes(channels)
    return preprocess_of(model)


def _warn_of_enlarging(image: Any, model: nn.Module, chosen: Preprocess) -> None:
    """Says that small pictures are enlarged to a size that nobody has named."""
    known = isinstance(getattr(model, "preprocess", None), Preprocess) or hasattr(model, "input_size")
    if not known and isinstance(image, Image.Image) and min(image.size) < chosen.size // 2:
        warn_user(
            "build_gallery",
            f"pictures of {image.width}x{image.height} pixels are enlarged to {chosen.size}, ImageNet's "
            f"size, as nobody has said what the network takes; preprocess= says it",
        )

"""Patches from the pictures themselves: where a preprocessing's result lies in a picture, found by coordinates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from zfkernels.models import Preprocess
from zfkernels.viz import resize_tiles

FACTOR = 2  # pixels of an original for each one of the network's input, along each side
LARGER = 1.1  # pictures with so many pixels for one of the input are worth cutting from
AWRY = 1.5  # pixels of the picture that a coordinate may lie beside the straight line through all of them
Box = tuple[float, float, float, float]  # left, top, right, bottom, in pixels of the picture


@dataclass
class Originals:
    """Cuts from a picture what the network sees of it, at ``FACTOR`` times the resolution of its input.

    Attributes:
        function: The preprocessing.
        size: Height and width of its results.
        mode: Pillow's, "RGB" or "L": how the picture is shown.
    """

    function: Callable[[Any], Tensor]
    size: tuple[int, int]
    mode: str
    _boxes: dict[tuple[int, int, str], Box | None] = field(default_factory=dict)

    def __call__(self, picture: Any) -> Tensor | None:  # uint8 [3, FACTOR * H, FACTOR * W]
        """The part of a picture; None where it has no more to show than the input, or where that part is unknown."""
        if not isinstance(picture, Image.Image) or picture.mode not in ("RGB", "L"):
            return None
        key = (*picture.size, picture.mode)
        if key not in self._boxes:
            self._boxes[key] = box_of(self.function, picture.size, picture.mode)
        box = self._boxes[key]
        height, width = self.size
        if box is None or min((box[2] - box[0]) / width, (box[3] - box[1]) / height) < LARGER:
            return None
        part = picture.convert(self.mode).resize((FACTOR * width, FACTOR * height), Image.Resampling.BICUBIC, box)
        return torch.from_numpy(np.array(part.convert("RGB"))).permute(2, 0, 1)


def with_originals(pixels: Tensor, originals: Sequence[Tensor | None]) -> Tensor:
    """Images as they are shown, [N, 3, H, W], at ``FACTOR`` times the resolution where there are originals to cut from.

    Those without one are enlarged, so that all are of one size; without any, all stay as they are.
    """
    if not any(original is not None for original in originals):
        return pixels
    size = (FACTOR * pixels.shape[2], FACTOR * pixels.shape[3])
    return torch.cat(
        [
            resize_tiles(image[None], size) if original is None else original[None].to(pixels)
            for image, original in zip(pixels, originals, strict=True)
        ]
    )


def box_of(function: Callable[[Any], Tensor], size: tuple[int, int], mode: str = "RGB") -> Box | None:
    """The part of pictures of one size (width and height) that ``function`` makes its result of.

    Known for ``Preprocess``. Any other function is given pictures whose levels are coordinates, once of columns and
    once of rows, beside a black and a white one: what comes out says where each of its pixels came from.

    Returns:
        The part; None where it is no upright rectangle of the picture: turned, mirrored, warped, padded or patched.
    """
    if type(function) is Preprocess:
        return _centre(function, size)
    width, height = size
    across = np.broadcast_to(_levels(width), (height, width))
    down = np.broadcast_to(_levels(height)[:, None], (height, width))
    try:
        black, white, columns, rows = (
            function(Image.fromarray(np.ascontiguousarray(levels)).convert(mode)).double().mean(0).numpy()
            for levels in (np.zeros_like(across), np.full_like(across, 255), across, down)
        )
    except Exception:  # noqa: BLE001  # of anybody's code, that takes no such picture
        return None
    step = white - black
    if not (np.isfinite(step).all() and (np.abs(step) > 0).all()):
        return None
    horizontal = _line((columns - black) / step * width, width)
    vertical = _line(((rows - black) / step * height).T, height)
    if horizontal is None or vertical is None:
        return None
    return horizontal[0], vertical[0], horizontal[1], vertical[1]


def _levels(length: int) -> np.ndarray:  # uint8 [length]
    """The place of each pixel, from 0 to 255 over the whole length."""
    return np.rint(255 * (np.arange(length) + 0.5) / length).astype(np.uint8)


def _line(places: np.ndarray, length: int) -> tuple[float, float] | None:
    """Where a result begins and ends in a picture of this length, from the place [rows, n] of each of its n columns."""
    n = places.shape[1]
    if n < 2:
        return None
    slope, begin = np.polyfit(np.arange(n) + 0.5, places.mean(0), 1)
    allowed = AWRY + length / 255  # levels are whole numbers
    ends = begin, begin + slope * n
    straight = np.abs(places - (begin + slope * (np.arange(n) + 0.5))).max() <= allowed
    if slope <= 0 or not straight or ends[0] < -allowed or ends[1] > length + allowed:
        return None
    return max(0.0, float(ends[0])), min(float(length), float(ends[1]))


def _centre(preprocess: Preprocess, size: tuple[int, int]) -> Box:
    sides = []
    for length in size:
        resized = preprocess.resize if length == min(size) else int(preprocess.resize * length / min(size))
        first = round((resized - preprocess.size) / 2) * length / resized
        sides.append((first, min(float(length), first + preprocess.size * length / resized)))
    (left, right), (top, bottom) = sides
    return left, top, right, bottom

"""Photos that every user has: those that ship inside scikit-image's wheel, cut into crops at several scales."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from PIL import Image

from zfkernels.data.pictures import open_picture
from zfkernels.data.source import ImageSource

# Natural pictures only: the wheel also holds drawings, charts, silhouettes and medical images.
PHOTOS = (
    "astronaut.png",
    "brick.png",
    "camera.png",
    "chelsea.png",
    "coffee.png",
    "coins.png",
    "grass.png",
    "gravel.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "moon.png",
    "motorcycle_left.png",
    "page.png",
    "rocket.jpg",
    "text.png",
)
SCALES = (1, 3 / 4, 1 / 2, 3 / 8, 1 / 4, 3 / 16, 1 / 8)  # side of a crop, as a share of the photo's shorter side
SMALLEST_SIDE = 40
STEP = 3 / 4  # from one crop to the next, at most, in sides: neighbours share a quarter
LARGEST_SHORT_SIDE = 512


class EmbeddedPhotos(ImageSource):
    """scikit-image's photos and square crops of them, the same ones everywhere.

    ``astronaut`` is a whole photo, ``astronaut/64/129-194`` its crop of side 64 whose first row is 129 and first column
    194. The label is the name of the photo.

    Raises:
        ImportError: scikit-image is not installed.
    """

    name = "scikit-image's photos and crops of them"

    def __init__(self) -> None:
        self._boxes: list[tuple[str, tuple[int, int, int, int]]] = []
        self.keys = []
        for name in PHOTOS:
            width, height = _photo(name).size
            self._boxes.append((name, (0, 0, width, height)))
            self.keys.append(Path(name).stem)
            for side, top, left in _crops(width, height):
                self._boxes.append((name, (left, top, left + side, top + side)))
                self.keys.append(f"{Path(name).stem}/{side}/{top}-{left}")
        self.order = range(len(self.keys))
        self.groups = [PHOTOS.index(name) for name, _ in self._boxes]

    def load(self, image_id: int) -> tuple[Image.Image, str | None]:
        name, box = self._boxes[image_id]
        return _photo(name).crop(box), Path(name).stem

    def picture(self, key: str) -> Image.Image:
        """The photo or crop of this key, such as ``"coffee"``.

        Raises:
            ValueError: There is none.
        """
        if key not in self.keys:
            names = ", ".join(Path(name).stem for name in PHOTOS)
            raise ValueError(f"EmbeddedPhotos.picture: expected key one of {names}, or of a crop, got {key!r}")
        return self.load(self.keys.index(key))[0]


def embedded_photos() -> EmbeddedPhotos:
    """A few thousand crops of the photos that ship with scikit-image; nothing is downloaded.

    Raises:
        ImportError: scikit-image is not installed.
    """
    return EmbeddedPhotos()


def _crops(width: int, height: int) -> Iterator[tuple[int, int, int]]:
    """(side, top, left) of the crops of one photo: at each scale a grid from border to border."""
    for scale in SCALES:
        side = round(scale * min(width, height))
        if side >= SMALLEST_SIDE:
            yield from ((side, top, left) for top in _starts(height, side) for left in _starts(width, side))


def _starts(length: int, side: int) -> list[int]:
    steps = math.ceil((length - side) / (STEP * side))
    return [n * (length - side) // max(steps, 1) for n in range(steps + 1)]


@lru_cache(maxsize=len(PHOTOS))
def _photo(name: str) -> Image.Image:
    spec = importlib.util.find_spec("skimage")
    if spec is None or spec.origin is None:
        raise ImportError("scikit-image is not installed: pip install 'zfkernels[viz]'")
    photo = open_picture(Path(spec.origin).parent / "data" / name, ("PNG", "JPEG")).convert("RGB")
    photo.thumbnail((LARGEST_SHORT_SIDE * 2, LARGEST_SHORT_SIDE))
    return photo

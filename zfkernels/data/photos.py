"""Photos that every user has: those that ship inside scikit-image's wheel, cut into crops at several scales."""

from __future__ import annotations

import importlib.util
from functools import lru_cache
from pathlib import Path

from PIL import Image

from zfkernels.data.source import ImageSource

# Natural pictures only: the wheel also holds drawings, charts and silhouettes.
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
    "retina.jpg",
    "rocket.jpg",
    "text.png",
)
SIDES = (512, 384, 256, 192, 128, 96, 64)  # of a crop, in pixels of a photo
LARGEST_SHORT_SIDE = 512


class EmbeddedPhotos(ImageSource):
    """Square crops of scikit-image's photos, the same ones everywhere; ``astronaut/64/128-192`` is the crop of side 64
    whose first row is 128 and first column 192. The label is the name of the photo.

    Raises:
        ImportError: scikit-image is not installed.
    """

    name = "embedded photos (scikit-image)"

    def __init__(self) -> None:
        self._crops = [(name, *crop) for name in PHOTOS for crop in _crops(*_photo(name).size)]
        self.keys = [f"{Path(name).stem}/{side}/{top}-{left}" for name, side, top, left in self._crops]
        self.order = range(len(self.keys))

    def load(self, image_id: int) -> tuple[Image.Image, str | None]:
        name, side, top, left = self._crops[image_id]
        return _photo(name).crop((left, top, left + side, top + side)), Path(name).stem


def embedded_photos() -> EmbeddedPhotos:
    """A few thousand crops of the photos that ship with scikit-image; nothing is downloaded.

    Raises:
        ImportError: scikit-image is not installed.
    """
    return EmbeddedPhotos()


def _crops(width: int, height: int) -> list[tuple[int, int, int]]:
    """(side, top, left) of the crops of one photo: at each scale they tile it with half of them overlapping."""
    crops = []
    for side in SIDES:
        if side <= min(width, height):
            step = side // 2
            rows, columns = range(0, height - side + 1, step), range(0, width - side + 1, step)
            crops += [(side, top, left) for top in rows for left in columns]
    return crops


@lru_cache(maxsize=len(PHOTOS))
def _photo(name: str) -> Image.Image:
    spec = importlib.util.find_spec("skimage")
    if spec is None or spec.origin is None:
        raise ImportError("scikit-image is not installed: pip install 'zfkernels[viz]'")
    with Image.open(Path(spec.origin).parent / "data" / name) as file:
        photo = file.convert("RGB")
    photo.thumbnail((LARGEST_SHORT_SIDE * 2, LARGEST_SHORT_SIDE))
    return photo

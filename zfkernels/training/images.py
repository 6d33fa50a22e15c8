"""Labelled images laid out as ``<split>/<class>/<image>``."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2 import functional as F

from zfkernels.data import ImageSource, UnreadableImageError, open_source
from zfkernels.output import replacing
from zfkernels.progress import progress_bar


class LabelledImages(Dataset[tuple[Tensor, int]]):
    """One split of a data set, decoded on access.

    Args:
        source: What ``zfkernels.data.open_source`` takes: a folder or archive; its keys must contain
            ``<split>/<class>/.../<image>``, at any depth.
        split: Name of the split's folder, such as ``"train"``.
        size: Images are scaled to this shorter side and centre-cropped to ``size`` x ``size``.
        classes: Use so many of the classes, evenly spaced in the sorted list of their names; None: all.
        per_class: Use so many images of each class, the first by key; None: all.
        least: Smaller images, by their shorter side, are refused when they are read.

    Attributes:
        classes: Sorted names of the class folders; a label is an index into them.
        labels: int64 [images].

    Raises:
        FileNotFoundError: ``source`` does not exist.
        ValueError: It holds no images of this split, images of one class only, fewer than ``classes`` classes, or a
            class of fewer than ``per_class`` images, which is named.
    """

    def __init__(
        self,
        source: str | Path | ImageSource,
        split: str,
        size: int,
        *,
        classes: int | None = None,
        per_class: int | None = None,
        least: int = 1,
    ) -> None:
        self.source, self.split, self.size, self.least = open_source(source), split, size, least
        found = [class_of(key, split) for key in self.source.keys]
        self.classes = _evenly(sorted({name for name in found if name is not None}), classes, split)
        kept = set(self.classes)
        self.ids = [image_id for image_id, name in enumerate(found) if name in kept]
        if per_class is not None:
            self.ids = _first_of_each(self.ids, [str(found[image_id]) for image_id in self.ids], per_class, split)
        names = [str(found[image_id]) for image_id in self.ids]
        if not names:
            raise ValueError(
                f"LabelledImages: expected source with images in {split}/<class>/, got none in {self.source.name}"
            )
        if len(self.classes) < 2:
            raise ValueError(
                f"LabelledImages: expected source of at least 2 classes, got only {self.classes[0]!r} in {split}"
            )
        index = {name: label for label, name in enumerate(self.classes)}
        self.labels = torch.tensor([index[name] for name in names])

    def __len__(self) -> int:
        return len(self.ids)

    def image(self, index: int) -> Tensor:  # uint8 [3, size, size]
        """One image.

        Raises:
            UnreadableImageError: It cannot be decoded, or is too small; the message names it.
        """
        key = self.source.keys[self.ids[index]]
        try:
            picture, _ = self.source.load(self.ids[index])
        except UnreadableImageError as error:
            raise UnreadableImageError(f"LabelledImages: {key} cannot be used: {error}") from error
        if not isinstance(picture, Image.Image):
            raise TypeError(f"LabelledImages: expected source whose items are pictures, got {type(picture).__name__}")
        if min(picture.size) < self.least:
            raise UnreadableImageError(
                f"LabelledImages: expected images of at least {self.least} pixels, which the network takes, "
                f"got {key} of {picture.width}x{picture.height}"
            )
        return F.pil_to_tensor(F.center_crop(F.resize(picture, [self.size]), [self.size]))

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.image(index), int(self.labels[index])

    def fingerprint(self) -> str:
        """Identifies content and order: changes with the keys, the date of the source, the split and the size."""
        path = Path(self.source.name)
        date = path.stat().st_mtime_ns if path.exists() else 0
        keys = "\n".join(self.source.keys[image_id] for image_id in self.ids)
        identity = f"{self.source.name}\n{date}\n{self.split}\n{self.size}\n{keys}"
        return hashlib.sha256(identity.encode()).hexdigest()[:16]


class DecodedImages(Dataset[tuple[Tensor, Tensor]]):
    """The same images, decoded once into a memory-mapped file and read batch by batch.

    Args:
        images: What to decode.
        folder: Where the decoded file is kept, created if missing: 3 bytes per pixel.
        progress: Whether to show a progress bar while decoding.
    """

    def __init__(self, images: LabelledImages, folder: str | Path, *, progress: bool = True) -> None:
        self.labels = images.labels
        path = Path(folder) / f"{images.split}-{images.size}-{images.fingerprint()}.npy"
        if not path.exists():
            _decode(images, path, progress)
        self.pixels = np.load(path, mmap_mode="r")  # uint8 [images, size, size, 3]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        images, labels = self.__getitems__([index])
        return images[0], labels[0]

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        """A whole batch at once: uint8 [N, 3, size, size] in channels_last memory and int64 [N]."""
        return torch.from_numpy(self.pixels[indices]).permute(0, 3, 1, 2), self.labels[indices]


def class_of(key: str, split: str) -> str | None:
    """The class in a key such as ``tiny-imagenet-200/train/n01443537/000.webp``; None if it is of another split."""
    folders = PurePosixPath(key).parts[:-1]
    return folders[folders.index(split) + 1] if split in folders[:-1] else None


def _evenly(names: list[str], count: int | None, split: str) -> list[str]:
    if count is None:
        return names
    if not 2 <= count <= len(names):
        raise ValueError(f"LabelledImages: expected classes from 2 to the {len(names)} of {split}, got {count}")
    return [names[n * len(names) // count] for n in range(count)]


def _first_of_each(ids: list[int], names: list[str], count: int, split: str) -> list[int]:
    if count < 1:
        raise ValueError(f"LabelledImages: expected per_class ≥ 1, got {count}")
    seen: Counter[str] = Counter()
    kept = []
    for image_id, name in zip(ids, names, strict=True):
        seen[name] += 1
        if seen[name] <= count:
            kept.append(image_id)
    for name, images in sorted(seen.items()):
        if images < count:
            raise ValueError(
                f"LabelledImages: expected {count} images of each class, got {images} of {name!r} in {split}"
            )
    return kept


def _decode(images: LabelledImages, path: Path, progress: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        shape = (len(images), images.size, images.size, 3)
        pixels = np.lib.format.open_memmap(partial, mode="w+", dtype=np.uint8, shape=shape)
        with progress_bar(len(images), "images", progress, name=f"decoding {images.split}") as advance:
            for index in range(len(images)):
                pixels[index] = images.image(index).permute(1, 2, 0).numpy()
                advance(1)
        pixels.flush()

"""Batches of labelled images for training and evaluation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, DistributedSampler

from zfkernels.data import ImageSource
from zfkernels.training.crops import center_crop, random_crop, ten_crop
from zfkernels.training.images import DecodedImages, LabelledImages
from zfkernels.training.recipe import Recipe


class ImageClasses(pl.LightningDataModule):
    """The train and val splits of a folder or archive laid out as ``<split>/<class>/<image>``.

    Batches travel as uint8; they are normalised, cropped and mirrored on the device.

    Args:
        source: The folder or archive.
        recipe: Sizes, crops and normalisation.
        input_size: Side length in pixels that the network takes.
        cache: Folder for a decoded copy of the images (3 bytes per pixel); None: decoded on access.
        workers: Processes that load batches.
        seed: Determines the order of the images.
        limit_classes, limit_per_class: Use so many classes, and so many training images of each; None: all.
        progress: Whether to show a progress bar while decoding.

    Attributes:
        classes: Sorted names of the class folders; a label is an index into them.
        mean: What is subtracted from pixels in [0, 1], [3, 1, 1] or, for a mean image, [3, stored size, stored size].

    Raises:
        FileNotFoundError: ``source`` does not exist.
        ValueError: It has no images in a split, one class only, or different classes in its splits; or the recipe's
            images, or those of ``source``, are smaller than the network's input.
    """

    mean: Tensor
    train_set: LabelledImages | DecodedImages
    val_set: LabelledImages | DecodedImages

    def __init__(
        self,
        source: str | Path | ImageSource,
        recipe: Recipe,
        *,
        input_size: int,
        cache: str | Path | None = None,
        workers: int = 0,
        seed: int = 0,
        limit_classes: int | None = None,
        limit_per_class: int | None = None,
        progress: bool = True,
    ) -> None:
        super().__init__()
        if recipe.stored_size < input_size:
            raise ValueError(f"ImageClasses: expected stored_size of at least {input_size}, got {recipe.stored_size}")
        self.recipe, self.input_size = recipe, input_size
        self.limit_classes, self.limit_per_class = limit_classes, limit_per_class
        self.cache, self.workers, self.seed, self.progress = cache, workers, seed, progress
        self.train_images = LabelledImages(
            source, "train", recipe.stored_size, classes=limit_classes, per_class=limit_per_class, least=input_size
        )
        self.val_images = LabelledImages(
            self.train_images.source, "val", recipe.stored_size, classes=limit_classes, least=input_size
        )
        self.classes = self.train_images.classes
        if self.val_images.classes != self.classes:
            odd = sorted(set(self.val_images.classes) ^ set(self.classes))
            raise ValueError(f"ImageClasses: expected the same classes in train and val, got {odd[0]!r} in one only")
        self.std = per_channel(recipe.std)
        self.train_images.image(0)  # the size of the first one is likely to be that of all

    def prepare_data(self) -> None:
        """Decodes into the cache, once per machine."""
        self._open(self.train_images)
        self._open(self.val_images)

    def setup(self, stage: str | None = None) -> None:
        """Opens the splits and computes the mean image where the recipe names no mean."""
        self.train_set, self.val_set = self._open(self.train_images), self._open(self.val_images)
        mean = self.recipe.mean
        self.mean = mean_image(self.train_set) if mean is None else per_channel(mean)

    def _open(self, images: LabelledImages) -> LabelledImages | DecodedImages:
        return images if self.cache is None else DecodedImages(images, self.cache, progress=self.progress)

    def train_dataloader(self) -> DataLoader:
        return self._loader(self.train_set, shuffle=True)

    def val_dataloader(self) -> DataLoader:
        return self._loader(self.val_set, shuffle=False)

    def _loader(self, images: LabelledImages | DecodedImages, *, shuffle: bool) -> DataLoader:
        world, rank = (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)
        # The order depends on seed and epoch alone, so that a resumed run sees what an unbroken one sees.
        sampler: DistributedSampler = DistributedSampler(
            images, world, rank, shuffle=shuffle, seed=self.seed, drop_last=shuffle
        )
        return DataLoader(
            images,
            batch_size=self.recipe.batch_size,
            sampler=sampler,
            num_workers=self.workers,
            collate_fn=collate_of(images),
            drop_last=shuffle,
            generator=torch.Generator(),  # its own, so that crops and dropout alone draw from the global one
            persistent_workers=self.workers > 0,
        )

    def on_after_batch_transfer(self, batch: tuple[Tensor, Tensor], dataloader_idx: int) -> tuple[Tensor, Tensor]:
        images, labels = normalize(batch[0], self.mean, self.std), batch[1]
        if self.trainer is None or not self.trainer.training:
            return center_crop(images, self.input_size), labels
        if self.recipe.crops == "random":
            return random_crop(images, self.input_size, self.recipe.padding), labels
        choice = torch.randint(10, (len(images),), device=images.device)
        crops = ten_crop(images, self.input_size)
        return crops[torch.arange(len(images), device=images.device), choice], labels


def per_channel(values: tuple[float, float, float]) -> Tensor:  # [3, 1, 1]
    return torch.tensor(values).view(3, 1, 1)


def normalize(
    images: Tensor,  # uint8 [N, 3, H, W]
    mean: Tensor,  # [3, 1, 1] or [3, H, W], of pixels in [0, 1]
    std: Tensor,  # [3, 1, 1]
) -> Tensor:  # float32 [N, 3, H, W]
    return (images / 255 - mean.to(images.device)) / std.to(images.device)


def mean_image(
    images: LabelledImages | DecodedImages,
    limit: int = 10_000,
) -> Tensor:  # float32 [3, size, size] in [0, 1]
    """The mean, pixel by pixel, of at most ``limit`` images spread evenly over a data set."""
    indices = torch.linspace(0, len(images) - 1, min(limit, len(images))).long().tolist()
    total = torch.zeros(images[0][0].shape, dtype=torch.float64)
    for index in indices:
        total += images[index][0]
    return (total / len(indices) / 255).float()


def collate_of(images: LabelledImages | DecodedImages) -> Callable[[Any], Any] | None:
    """What a DataLoader makes of the items of a batch: decoded images come as a whole batch already."""
    return _as_it_is if isinstance(images, DecodedImages) else None


def _as_it_is(batch: Any) -> Any:
    return batch

"""Images of a source in batches, decoded in worker processes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from zfkernels.data.source import ImageSource

if TYPE_CHECKING:
    from PIL import Image

Preprocess = Callable[["Image.Image"], Tensor]  # a picture → float32 [3, H, W]; ValueError where it cannot


@dataclass(frozen=True)
class Batch:
    """N images of a source, and those that could not be read on the way.

    Attributes:
        images: float32 [N, 3, H, W], as the network takes them. N may be 0.
        ids: int64 [N], increasing in the source's reading order.
        labels: The label of each image, None where there is none.
        skipped: (id, reason) of each image that was left out.
    """

    images: Tensor
    ids: Tensor
    labels: list[str | None]
    skipped: list[tuple[int, str]]


class _Decoded(Dataset[tuple[int, Tensor | None, str | None]]):
    """(id, image, label), or (id, None, reason) where an image cannot be used."""

    def __init__(self, source: ImageSource, preprocess: Preprocess, ids: Sequence[int]) -> None:
        self.source, self.preprocess, self.ids = source, preprocess, ids

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> tuple[int, Tensor | None, str | None]:
        image_id = self.ids[index]
        try:
            image, label = self.source.load(image_id)
            return image_id, image if isinstance(image, Tensor) else self.preprocess(image), label
        except ValueError as error:
            return image_id, None, str(error)


def _collate(items: list[tuple[int, Tensor | None, str | None]]) -> Batch:
    usable = [(image_id, image, label) for image_id, image, label in items if image is not None]
    return Batch(
        images=torch.stack([image for _, image, _ in usable]) if usable else torch.empty(0, 3, 0, 0),
        ids=torch.tensor([image_id for image_id, _, _ in usable], dtype=torch.int64),
        labels=[label for _, _, label in usable],
        skipped=[(image_id, str(reason)) for image_id, image, reason in items if image is None],
    )


def stream(
    source: ImageSource,
    preprocess: Preprocess,
    *,
    ids: Sequence[int] | None = None,
    batch_size: int = 64,
    workers: int | None = None,
) -> Iterator[Batch]:
    """The images of ``source``, each once, in the order in which they are cheapest to read.

    Args:
        source: Where the images come from.
        preprocess: Makes the network's input, float32 [3, H, W], of a picture (``zfkernels.models.Preprocess``);
            tensors of a source are taken as they are.
        ids: Only these images, in this order; None for all.
        batch_size: Images of a batch, those that are skipped included; ≥ 1.
        workers: Worker processes that decode; 0 decodes in this one, None takes one for each core, at most 8.

    Yields:
        Batches; an image that cannot be read is listed in its batch's ``skipped``.

    Raises:
        ValueError: ``batch_size`` or ``workers`` out of range.
    """
    if batch_size < 1:
        raise ValueError(f"stream: expected batch_size ≥ 1, got {batch_size}")
    if workers is None:
        workers = min(8, os.cpu_count() or 1)
    if workers < 0:
        raise ValueError(f"stream: expected workers ≥ 0, got {workers}")
    dataset = _Decoded(source, preprocess, source.order if ids is None else ids)
    workers = min(workers, -(-len(dataset) // batch_size))
    yield from DataLoader(dataset, batch_size=batch_size, num_workers=workers, collate_fn=_collate)

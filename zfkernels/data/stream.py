"""Images of a source in batches, decoded in worker processes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from zfkernels.data.datasets import IterableSource
from zfkernels.data.source import ImageSource

if TYPE_CHECKING:
    from PIL import Image

Preprocess = Callable[["Image.Image"], Tensor]  # a picture → float32 [3, H, W]; ValueError where it cannot
Item = tuple[int, "Tensor | None", "str | None"]  # id, image, label; or id, None, reason where it cannot be used


@dataclass(frozen=True)
class Batch:
    """N images of a source, and those that could not be read on the way.

    Attributes:
        images: float32 [N, 3, H, W], as the network takes them. N may be 0.
        ids: int64 [N], increasing in the source's reading order.
        labels: The label of each image, None where there is none.
        skipped: (id, reason) of each image that was left out.
        number: Which batch of the stream this is, from 0, those that were left out included.
    """

    images: Tensor
    ids: Tensor
    labels: list[str | None]
    skipped: list[tuple[int, str]]
    number: int = 0


class _Decoded(Dataset[tuple[int, Item]]):
    """The images of a source with random access; sampled by (number of the batch, id)."""

    def __init__(self, source: ImageSource, preprocess: Preprocess) -> None:
        self.source, self.preprocess = source, preprocess

    def __getitem__(self, place: tuple[int, int]) -> tuple[int, Item]:
        number, image_id = place
        return number, _prepared(image_id, lambda: self.source.load(image_id), self.preprocess)


class _Walked(IterableDataset["Batch | str"]):
    """The batches of a walk; images that nobody wants are not prepared."""

    def __init__(
        self,
        source: IterableSource,
        preprocess: Preprocess,
        ids: frozenset[int] | None,
        batch_size: int,
        skip: Callable[[int], bool],
    ) -> None:
        self.source, self.preprocess, self.ids, self.batch_size, self.skip = source, preprocess, ids, batch_size, skip

    def __iter__(self) -> Iterator[Batch | str]:
        """Batches; in the end the reason why there are no more, if the walk broke off: an error would lose its text."""
        items: list[Item] = []
        seen = 0
        try:
            for image_id, thing in enumerate(self.source.walk()):
                if self.ids is not None and image_id not in self.ids:
                    continue
                number, seen = seen // self.batch_size, seen + 1
                if not self.skip(number):
                    items.append(_prepared(image_id, partial(self.source.unpack, thing), self.preprocess))
                    if seen % self.batch_size == 0:
                        yield collate(number, items)
                        items = []
            if items:
                yield collate((seen - 1) // self.batch_size, items)
            if self.ids is not None and seen < len(self.ids):
                yield f"stream: {self.source.name} gave {len(self.ids) - seen} fewer images than in the walk before"
        except RuntimeError as error:
            yield str(error)


def _prepared(image_id: int, load: Callable[[], tuple[Any, str | None]], preprocess: Preprocess) -> Item:
    try:
        image, label = load()
        return image_id, image if isinstance(image, Tensor) else preprocess(image), label
    except ValueError as error:
        return image_id, None, str(error)


def collate(number: int, items: Sequence[Item]) -> Batch:
    """A batch of prepared images."""
    usable = [(image_id, image, label) for image_id, image, label in items if image is not None]
    return Batch(
        images=torch.stack([image for _, image, _ in usable]) if usable else torch.empty(0, 3, 0, 0),
        ids=torch.tensor([image_id for image_id, _, _ in usable], dtype=torch.int64),
        labels=[label for _, _, label in usable],
        skipped=[(image_id, str(reason)) for image_id, image, reason in items if image is None],
        number=number,
    )


def _collate(items: Sequence[tuple[int, Item]]) -> Batch:
    return collate(items[0][0], [item for _, item in items])


def load_batch(source: ImageSource, preprocess: Preprocess, number: int, ids: Sequence[int]) -> Batch:
    """One batch of a source with random access, decoded here."""
    decoded = _Decoded(source, preprocess)
    return _collate([decoded[number, image_id] for image_id in ids])


def split(ids: Sequence[int], batch_size: int) -> list[Sequence[int]]:
    """Batches of ids, one after the other."""
    return [ids[start : start + batch_size] for start in range(0, len(ids), batch_size)]


def stream(
    source: ImageSource,
    preprocess: Preprocess,
    *,
    ids: Sequence[int] | None = None,
    batch_size: int = 64,
    workers: int | None = None,
    skip: Callable[[int], bool] = lambda number: False,
) -> Iterator[Batch]:
    """The images of ``source``, each once, in the order in which they are cheapest to read.

    Args:
        source: Where the images come from.
        preprocess: Makes the network's input, float32 [3, H, W], of a picture (``zfkernels.models.Preprocess``);
            tensors of a source are taken as they are.
        ids: Only these images, in this order (an iterable source: in its own); None for all.
        batch_size: Images of a batch, those that are skipped included; ≥ 1.
        workers: Worker processes that decode; 0 decodes in this one, None takes one for each core, at most 8. An
            iterable source has one at most, since two would not know of each other.
        skip: Whether the batch of this number is left out; the others keep their numbers.

    Yields:
        Batches; an image that cannot be read is listed in its batch's ``skipped``.

    Raises:
        ValueError: ``batch_size`` or ``workers`` out of range.
        RuntimeError: An iterable source breaks off, or gives fewer images than asked for.
    """
    if batch_size < 1:
        raise ValueError(f"stream: expected batch_size ≥ 1, got {batch_size}")
    if workers is None:
        workers = min(8, os.cpu_count() or 1)
    if workers < 0:
        raise ValueError(f"stream: expected workers ≥ 0, got {workers}")
    if isinstance(source, IterableSource):
        wanted = None if ids is None else frozenset(ids)
        walked = _Walked(source, preprocess, wanted, batch_size, skip)
        for batch in walked if workers == 0 else DataLoader(walked, batch_size=None, num_workers=1):
            if isinstance(batch, str):
                raise RuntimeError(batch)
            yield batch
        return
    batches = split(source.order if ids is None else ids, batch_size)
    chosen = [[(number, image_id) for image_id in batch] for number, batch in enumerate(batches) if not skip(number)]
    if not chosen:
        return
    yield from DataLoader(
        _Decoded(source, preprocess),
        batch_sampler=chosen,
        num_workers=min(workers, len(chosen)),
        collate_fn=_collate,
    )

"""Images of a source in batches, decoded in worker processes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from zfkernels.data.datasets import IterableSource
from zfkernels.data.patience import say_when_quiet, warn
from zfkernels.data.pictures import start_no_programs
from zfkernels.data.source import ImageSource, UnreadableImageError, reason_of

if TYPE_CHECKING:
    pass

Preprocess = Callable[[Any], Tensor]  # a picture or array → float32 [C, H, W]; ValueError where it cannot
Original = Callable[[Any], "Tensor | None"]  # a picture or array → what is kept of it beside the network's input
# Id, image, label, what is kept of the original; or id, None, reason, None where it cannot be used.
Item = tuple[int, "Tensor | None", "str | None", "Tensor | None"]


@dataclass(frozen=True)
class Batch:
    """N images of a source, and those that could not be read on the way.

    Attributes:
        images: float32 [N, C, H, W], as the network takes them. N may be 0.
        ids: int64 [N], increasing in the source's reading order.
        labels: The label of each image, None where there is none.
        skipped: (id, reason) of each image that was left out.
        number: Which batch of the stream this is, from 0, those that were left out included.
        originals: What ``keep`` made of each image, see ``stream``; empty where nobody asked.
    """

    images: Tensor
    ids: Tensor
    labels: list[str | None]
    skipped: list[tuple[int, str]]
    number: int = 0
    originals: list[Tensor | None] = field(default_factory=list)


class _Decoded(Dataset[tuple[int, Item]]):
    """The images of a source with random access; sampled by (number of the batch, id)."""

    def __init__(self, source: ImageSource, preprocess: Preprocess, keep: Original | None = None) -> None:
        self.source, self.preprocess, self.keep = source, preprocess, keep

    def __getitem__(self, place: tuple[int, int]) -> tuple[int, Item]:
        number, image_id = place
        return number, _prepared(image_id, lambda: self.source.load(image_id), self.preprocess, self.keep)


@dataclass(frozen=True)
class _End:
    """The end of a walk: how many images it gave, and why it broke off if it did; an error would lose its text."""

    walked: int
    problem: str = ""


class _Walked(IterableDataset["Batch | _End"]):
    """The batches of a walk, and its end; images that nobody wants are not prepared."""

    def __init__(
        self,
        source: IterableSource,
        preprocess: Preprocess,
        ids: frozenset[int] | None,
        batch_size: int,
        skip: Callable[[int], bool],
        keep: Original | None,
    ) -> None:
        self.source, self.preprocess, self.ids, self.batch_size, self.skip = source, preprocess, ids, batch_size, skip
        self.keep = keep

    def __iter__(self) -> Iterator[Batch | _End]:
        items: list[Item] = []
        walked = seen = 0
        try:
            for image_id, thing in enumerate(self.source.walk()):
                walked += 1
                if self.ids is not None and image_id not in self.ids:
                    continue
                number, seen = seen // self.batch_size, seen + 1
                if not self.skip(number):
                    items.append(_prepared(image_id, partial(self.source.unpack, thing), self.preprocess, self.keep))
                    if seen % self.batch_size == 0:
                        yield collate(number, items)
                        items = []
        except RuntimeError as error:
            yield _End(walked, str(error))
            return
        if items:
            yield collate((seen - 1) // self.batch_size, items)
        fewer = 0 if self.ids is None else len(self.ids) - seen
        problem = f"stream: {self.source.name} gave {fewer} fewer images than in the walk before" if fewer else ""
        yield _End(walked, problem)


def _prepared(
    image_id: int, load: Callable[[], tuple[Any, str | None]], preprocess: Preprocess, keep: Original | None
) -> Item:
    try:
        return image_id, *_as_input(load, preprocess, keep)
    except UnreadableImageError as error:
        return image_id, None, str(error), None


def _as_input(
    load: Callable[[], tuple[Any, str | None]], preprocess: Preprocess, keep: Original | None
) -> tuple[Tensor, str | None, Tensor | None]:
    """An image as the network takes it, its label, and what is kept of the original.

    Raises:
        UnreadableImageError: Anything went wrong. A StopIteration would end the stream, anything else the run.
    """
    try:
        image, label = load()
        # What belongs to a graph cannot travel between processes.
        if isinstance(image, Tensor):
            return image, label, None
        return preprocess(image).detach(), label, None if keep is None else keep(image)
    except Exception as error:
        raise UnreadableImageError(reason_of(error)) from error


def collate(number: int, items: Sequence[Item]) -> Batch:
    """A batch of prepared images."""
    usable = [(image_id, image, label) for image_id, image, label, _ in items if image is not None]
    return Batch(
        images=torch.stack([image for _, image, _ in usable]) if usable else torch.empty(0, 3, 0, 0),
        ids=torch.tensor([image_id for image_id, _, _ in usable], dtype=torch.int64),
        labels=[label for _, _, label in usable],
        skipped=[(image_id, str(reason)) for image_id, image, reason, _ in items if image is None],
        number=number,
        originals=[original for _, image, _, original in items if image is not None],
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
    say: Callable[[str], object] = warn,
    keep: Original | None = None,
) -> Iterator[Batch]:
    """The images of ``source``, each once, in the order in which they are cheapest to read.

    Where ``ids`` is None, images and ``skipped`` of all batches are together ``source.count``, or ``source.walked`` of
    an iterable source that has come to its end.

    Args:
        source: Where the images come from.
        preprocess: Makes the network's input, float32 [C, H, W], of a picture or an array
            (``zfkernels.models.Preprocess``); tensors of a source are taken as they are.
        ids: Only these images, in this order (an iterable source: in its own); None for all.
        batch_size: Images of a batch, those that are skipped included; ≥ 1.
        workers: Worker processes that decode; 0 decodes in this one, None takes one for each core, at most 8. An
            iterable source has one at most, since two would not know of each other.
        skip: Whether the batch of this number is left out; the others keep their numbers.
        say: Is told in a sentence, each minute, that no batch has come for so long. It is called in another
            thread. The default writes to the log, which ends on stderr.
        keep: Makes of each picture or array what is kept of it beside the network's input, a tensor or None.

    Yields:
        Batches; an image that cannot be used, whatever it raised, is listed in its batch's ``skipped``.

    Raises:
        ValueError: ``batch_size`` or ``workers`` out of range.
        RuntimeError: An iterable source breaks off, or gives fewer images than asked for or than its length says; or
            the worker processes ended early.
    """
    if batch_size < 1:
        raise ValueError(f"stream: expected batch_size ≥ 1, got {batch_size}")
    if workers is None:
        workers = min(8, os.cpu_count() or 1)
    if workers < 0:
        raise ValueError(f"stream: expected workers ≥ 0, got {workers}")
    if isinstance(source, IterableSource):
        wanted = None if ids is None else frozenset(ids)
        yield from _walk(_Walked(source, preprocess, wanted, batch_size, skip, keep), workers, say)
    else:
        numbered = enumerate(split(source.order if ids is None else ids, batch_size))
        chosen = [[(number, image_id) for image_id in batch] for number, batch in numbered if not skip(number)]
        yield from _load(_Decoded(source, preprocess, keep), chosen, workers, say)


def _walk(walked: _Walked, workers: int, say: Callable[[str], object]) -> Iterator[Batch]:
    name = walked.source.name
    batches: Iterable[Batch | _End] = walked
    if workers:
        batches = DataLoader(walked, batch_size=None, num_workers=1, worker_init_fn=_in_worker)
    for batch in say_when_quiet(batches, name, say):
        if isinstance(batch, Batch):
            yield batch
        elif batch.problem:
            raise RuntimeError(batch.problem)
        else:
            walked.source.walked = batch.walked
            return
    raise RuntimeError(f"stream: the walk through {name} ended without its end")


def _in_worker(number: int) -> None:
    start_no_programs()


def _load(
    decoded: _Decoded, chosen: list[list[tuple[int, int]]], workers: int, say: Callable[[str], object]
) -> Iterator[Batch]:
    if not chosen:
        return
    loader = DataLoader(
        decoded, batch_sampler=chosen, num_workers=min(workers, len(chosen)), collate_fn=_collate,
        worker_init_fn=_in_worker,
    )  # fmt: skip
    missing = len(chosen)
    for batch in say_when_quiet(loader, decoded.source.name, say):
        missing -= 1
        yield batch
    if missing:
        raise RuntimeError(f"stream: {decoded.source.name} ended {missing} batches early")

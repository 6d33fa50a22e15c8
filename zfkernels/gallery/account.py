"""After each pass: was every image seen exactly once? What is not accounted for is never published."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from zfkernels.data import ImageSource
from zfkernels.gallery.checkpoint import Progress
from zfkernels.gallery.draw import Studio
from zfkernels.gallery.sweep import Swept
from zfkernels.output.workplace import ANEW


def check_batches(progresses: Iterable[Progress], count: int | None, state: Path) -> int:
    """The number of batches that are done, if each is done once.

    Args:
        progresses: Of all processes.
        count: How many batches there are; None where nobody knew before the end.
        state: Where the progress lies on disk.

    Raises:
        RuntimeError: A batch is missing, or was done twice.
    """
    numbers = sorted(number for progress in progresses for number in progress.numbers)
    expected = len(numbers) if count is None else count
    if numbers != list(range(expected)):
        twice = len(numbers) - len(set(numbers))
        raise _unaccounted(
            f"each of {expected} batches once", f"{len(set(numbers))} of them, {twice} more than once", state
        )
    return expected


def check_sweep(swept: Swept, skipped: int, batches: int, batch_size: int, source: ImageSource, state: Path) -> None:
    """Refuses a first pass in which an image is missing or was counted twice.

    Args:
        swept: What was found.
        skipped: How many images were left out, by all processes.
        batches: How many batches there were.
        batch_size: Images of each but the last.
        source: Of the images.
        state: Where the progress lies on disk.

    Raises:
        RuntimeError: The numbers do not agree.
    """
    counts = {ranking.images for ranking in swept.rankings}
    got = f"{swept.images} and {skipped} left out"
    if len(counts) > 1:
        raise _unaccounted("as many images in each layer", " and ".join(map(str, sorted(counts))), state)
    seen = swept.images + skipped
    if seen == 0:
        raise _unaccounted("images", "none", state)
    if source.random_access:
        if seen != len(source.order):
            raise _unaccounted(f"each of {len(source.order)} images once", got, state)
        used = {image_id for ranking in swept.rankings for image_id in ranking.image_ids[ranking.taken].tolist()}
        if not used.union(image_id for image_id, _ in swept.skipped) <= set(source.order):
            raise _unaccounted("images of the data alone", "others", state)
    elif not (batches - 1) * batch_size < seen <= batches * batch_size:
        raise _unaccounted(f"{batches} batches of {batch_size} images, the last one of fewer", got, state)


def check_drawn(wanted: set[int], progresses: Sequence[Progress], studio: Studio, state: Path) -> None:
    """Refuses a second pass in which a winning image or a tile is missing, or was drawn twice.

    Args:
        wanted: The ids of the winning images.
        progresses: Of all processes.
        studio: Knows what all processes drew.
        state: Where the progress lies on disk.

    Raises:
        RuntimeError: The numbers do not agree.
    """
    drawn = [image_id for progress in progresses for image_id in progress.notes]
    if sorted(drawn) != sorted(wanted) or studio.pictures.checks.keys() != wanted:
        raise _unaccounted(f"each of {len(wanted)} winning images once", f"{len(drawn)}", state)
    missing = sum(
        int((found.drawn & (checks < 0)).sum())
        for found, checks in zip(studio.winners, studio.tiles.checks, strict=True)
    )
    if missing:
        raise _unaccounted("a tile of each activation", f"{missing} without", state)


def _unaccounted(expected: str, got: str, state: Path) -> RuntimeError:
    return RuntimeError(
        f"build_gallery: expected {expected}, got {got}: the data set broke off or {state} was changed; {ANEW}"
    )

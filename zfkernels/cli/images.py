"""Images of --data all at once, and the classes that they show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zfkernels.cli import options

if TYPE_CHECKING:
    from torch import Tensor

    from zfkernels.models import Preprocess


@dataclass(frozen=True)
class Loaded:
    """N images of a source as a network takes them, [N, 3, H, W], with keys and labels; (key, reason) of others."""

    source: str
    images: Tensor
    keys: list[str]
    labels: list[str | None]
    skipped: list[tuple[str, str]]


def load_images(command: str, data: str, limit: int | None, preprocess: Preprocess, device: str) -> Loaded:
    """All images of a source.

    Raises:
        ValueError: None of them can be read; the message has the reason.
    """
    import torch

    from zfkernels.data import stream

    source = options.open_data(data, limit)
    batches = list(stream(source, preprocess, batch_size=64, workers=0))
    skipped = [(source.keys[n], reason) for batch in batches for n, reason in batch.skipped]
    images = [batch.images for batch in batches if len(batch.ids)]
    if not images:
        raise ValueError(f"{command}: expected images that can be read, got none: {skipped[0][1]}")
    keys = [source.keys[n] for batch in batches for n in batch.ids.tolist()]
    labels = [label for batch in batches for label in batch.labels]
    return Loaded(source.name, torch.cat(images).to(device), keys, labels, skipped)


def known_classes(command: str, model: str, names: Sequence[str], labels: Sequence[str | None]) -> Tensor:  # int64 [N]
    """The model's class for each label, by its name among ``names``, its WordNet identifier or its number.

    Raises:
        ValueError: A label that stands for no class of the model.
    """
    import torch

    from zfkernels.models import Weights

    index = {name.lower(): n for n, name in reversed(list(enumerate(names)))}
    index |= {str(n): n for n in range(len(names))}
    if model == "zfnet64":
        index |= {wnid: n for n, wnid in enumerate(Weights.shipped(model).wnids)}
    for label in labels:
        if label is None or label.lower() not in index:
            raise ValueError(f"{command}: expected labels that are classes of {model}, got {label!r}")
    return torch.tensor([index[str(label).lower()] for label in labels])

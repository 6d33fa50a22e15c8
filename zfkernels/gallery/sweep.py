"""First pass: every image once through the network, the strongest activations of every map kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from zfkernels.data import ImageSource, stream
from zfkernels.gallery.layers import Layer
from zfkernels.methods.topk import Ranking, TopK
from zfkernels.models import Preprocess
from zfkernels.trace import Trace

Advance = Callable[[int], object]  # told how many images are done, as they are done


@dataclass
class Swept:
    """What the first pass found.

    Attributes:
        rankings: One for each layer, in order.
        images: Number of images that went through the network.
        skipped: (image id, reason) of those that did not, by id.
    """

    rankings: list[Ranking]
    images: int = 0
    skipped: list[tuple[int, str]] = field(default_factory=list)


def sweep(
    trace: Trace,
    layers: Sequence[Layer],
    source: ImageSource,
    preprocess: Preprocess,
    *,
    top_k: int,
    batch_size: int,
    workers: int | None,
    advance: Advance,
) -> Swept:
    """One forward pass for each batch of ``source``; memory does not grow with the number of images.

    Raises:
        ValueError: No image could be read.
    """
    parameter = next(trace.model.parameters(), torch.empty(0))
    topks = [TopK(layer.info.channels, top_k) for layer in layers]
    names = [layer.name for layer in layers]
    images, skipped = 0, []
    for batch in stream(source, preprocess, batch_size=batch_size, workers=workers):
        skipped += batch.skipped
        if len(batch.ids):
            activations = trace.activations(batch.images.to(parameter.device, parameter.dtype), names)
            for topk, name in zip(topks, names, strict=True):
                topk.update(activations[name], batch.ids)
            images += len(batch.ids)
        advance(len(batch.ids) + len(batch.skipped))
    if images == 0:
        image_id, reason = min(skipped)
        raise ValueError(f"build_gallery: expected dataset with images that can be read, got none: "
                         f"{source.keys[image_id]}: {reason}")  # fmt: skip
    return Swept([topk.compute() for topk in topks], images, sorted(skipped))

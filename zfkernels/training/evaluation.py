"""Top-1 and top-5 accuracy of a network or of several together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset

from zfkernels.data import ImageSource
from zfkernels.progress import progress_bar
from zfkernels.results import probabilities
from zfkernels.training.crops import center_crop, ten_crop
from zfkernels.training.data import collate_of, mean_image, normalize, per_channel
from zfkernels.training.images import DecodedImages, LabelledImages
from zfkernels.training.recipe import Recipe, default_recipe, input_size_of


@torch.no_grad()
def evaluate(
    models: nn.Module | Sequence[nn.Module],
    data: str | Path | ImageSource,
    *,
    split: str = "val",
    recipe: Recipe | None = None,
    crops: str = "center",
    batch_size: int = 128,
    cache: str | Path | None = None,
    workers: int = 0,
    limit_classes: int | None = None,
    limit_per_class: int | None = None,
    limit: int | None = None,
    device: str | torch.device = "cpu",
    progress: bool = True,
) -> dict[str, float]:
    """Measures a network, or an ensemble of networks for the same input, whose probabilities are averaged.

    Args:
        models: One network or several; they are put into eval mode and moved to ``device``.
        data: A folder or archive laid out as ``<split>/<class>/<image>``; outputs follow the sorted class names.
        split: The split to measure on.
        recipe: The sizes and the normalisation that the networks were trained with; None: that of their input size.
        crops: ``"center"``; or ``"ten"``: probabilities averaged over four corners, the centre and their mirrors,
            which are cut out of images padded as in training.
        batch_size: Images in a batch.
        cache: Folder for a decoded copy of the images; None: decoded on access.
        workers: Processes that load batches.
        limit_classes, limit_per_class: The part of the data set that a network was trained on, as of ``train``.
        limit: Use so many of the images, evenly spaced; None: all.
        device: Where to compute.
        progress: Whether to show a progress bar.

    Returns:
        ``{"top1", "top5", "images"}``: shares in [0, 1], and the number of images.

    Raises:
        FileNotFoundError: ``data`` does not exist.
        ValueError: No models, an unknown ``crops``, no images in the split, or more classes than outputs.

    Source: Zeiler & Fergus 2013 (arXiv 1311.2901), section 3 (crops), table 2 (ensembles).
    """
    networks = [models] if isinstance(models, nn.Module) else list(models)
    if not networks:
        raise ValueError("evaluate: expected models at least one network, got none")
    if limit is not None and limit < 1:
        raise ValueError(f"evaluate: expected limit at least 1, got {limit}")
    if crops not in ("center", "ten"):
        raise ValueError(f"evaluate: expected crops one of center, ten, got {crops!r}")
    recipe, size = recipe or default_recipe(networks[0]), input_size_of(networks[0])
    labelled = LabelledImages(
        data, split, recipe.stored_size, classes=limit_classes, per_class=limit_per_class, least=size
    )
    images = labelled if cache is None else DecodedImages(labelled, cache, progress=progress)
    if recipe.mean is None:
        mean = mean_image(LabelledImages(labelled.source, "train", recipe.stored_size, classes=limit_classes))
    else:
        mean = per_channel(recipe.mean)
    networks = [network.eval().to(device).to(memory_format=torch.channels_last) for network in networks]
    shown: Dataset[Any] = images
    if limit is not None and limit < len(images):
        shown = Subset(images, [n * len(images) // limit for n in range(limit)])
    count = len(images) if limit is None else min(limit, len(images))
    batches = DataLoader(shown, batch_size=batch_size, num_workers=workers, collate_fn=collate_of(images))
    hits = torch.zeros(2, dtype=torch.int64)
    with progress_bar(count, "images", progress, name=f"evaluating {split}") as advance:
        for pixels, labels in batches:
            inputs = normalize(pixels.to(device), mean, per_channel(recipe.std))
            views = _ten_views(inputs, size, recipe.padding) if crops == "ten" else center_crop(inputs, size)[:, None]
            probabilities = torch.stack([_mean_probabilities(network, views) for network in networks]).mean(0).cpu()
            if probabilities.shape[1] < len(labelled.classes):
                raise ValueError(
                    f"evaluate: expected data of at most {probabilities.shape[1]} classes, got {len(labelled.classes)}"
                )
            found = probabilities.topk(min(5, probabilities.shape[1])).indices == labels[:, None]
            hits += torch.stack([found[:, 0].sum(), found.any(1).sum()])
            advance(len(labels))
    return {"top1": int(hits[0]) / count, "top5": int(hits[1]) / count, "images": float(count)}


def _ten_views(images: Tensor, size: int, padding: int) -> Tensor:  # [N, 10, 3, size, size]
    return ten_crop(nn.functional.pad(images, [padding] * 4), size)


def _mean_probabilities(
    network: nn.Module,
    views: Tensor,  # [N, views, 3, H, W]
) -> Tensor:  # [N, classes]
    outputs = network(views.flatten(0, 1).contiguous(memory_format=torch.channels_last))
    return probabilities(outputs).unflatten(0, views.shape[:2]).mean(1)

"""The sweep of what cannot run on windows: the model itself, on whole occluded images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from zfkernels.network import run_model
from zfkernels.network.tree import leaves, map_leaves
from zfkernels.ops.occluded_conv2d.reference import occluded_crop
from zfkernels.windows import Pair

Advance = Callable[[int], object]


def dense_sweep(
    model: Callable[[Tensor], Any],
    images: Tensor,
    positions: Tensor,
    window: Pair,
    fill: Tensor,
    batch_size: int,
    alone: bool,
    advance: Advance,
) -> tuple[Any, Any]:
    """Runs any callable on whole occluded images.

    Args:
        model: of images [N, C, H, W]; what it writes into them stays here.
        images: [N, C, H, W].
        positions: int64 [P, 2].
        window: (height, width) of the square.
        fill: what the square shows, as of ``occluded_crop``.
        batch_size: images that go through the model together.
        alone: run each image, and each occluded image, by itself, as models need it whose images depend on each other.
        advance: told how many occluded images were run.

    Returns:
        Clean outputs, each tensor [N, ...], and outputs, each [N, P, ...], of the form of the model's own.

    Raises:
        ValueError: not ``alone``, and an output has not one row for each image.
    """

    def run(batch: Tensor) -> Any:
        return run_model(model, batch) if isinstance(model, nn.Module) else model(batch.contiguous())

    size = (images.shape[2], images.shape[3])
    count = len(positions)
    if not alone:
        clean = run(images)
        _check_rows(clean, len(images))
    else:
        clean = _stacked([_row(run(image[None])) for image in images]) if len(images) else run(images)
    form = clean
    results: list[Tensor] = []
    for leaf in leaves(clean):
        if isinstance(leaf, Tensor):
            results.append(leaf.new_empty((len(images), count, *leaf.shape[1:])))
    everything = torch.arange(len(images) * count, device=images.device)
    for chunk in everything.split(1 if alone else batch_size) if len(images) else ():
        image, position = chunk // count, chunk % count
        places = positions[position.cpu()].to(images.device, torch.int32)
        occluded = occluded_crop(images, places, image, fill, window, torch.zeros_like(places), size)
        out = run(occluded)
        if alone:
            out = map_leaves(lambda leaf: leaf[None] if isinstance(leaf, Tensor) else leaf, _row(out))
        found = [leaf for leaf in leaves(out) if isinstance(leaf, Tensor)]
        for result, leaf in zip(results, found, strict=True):
            result[image, position] = leaf
        advance(len(chunk))
    rest = iter(results)
    return form, map_leaves(lambda leaf: next(rest) if isinstance(leaf, Tensor) else leaf, form)


def _row(output: Any) -> Any:
    """The output for one image without the axis of the images, where there is one."""

    def row(leaf: Any) -> Any:
        return leaf[0] if isinstance(leaf, Tensor) and leaf.dim() and len(leaf) == 1 else leaf

    return map_leaves(row, output)


def _stacked(outputs: list[Any]) -> Any:
    columns = iter([torch.stack(column) for column in zip(*map(_tensors, outputs), strict=True)])
    return map_leaves(lambda leaf: next(columns) if isinstance(leaf, Tensor) else leaf, outputs[0])


def _tensors(output: Any) -> list[Tensor]:
    return [leaf for leaf in leaves(output) if isinstance(leaf, Tensor)]


def _check_rows(output: Any, count: int) -> None:
    tensors = _tensors(output)
    wrong = [tuple(leaf.shape) for leaf in tensors if not leaf.dim() or len(leaf) != count]
    if wrong or not tensors:
        got = wrong[0] if wrong else type(output).__name__
        raise ValueError(f"occlusion_sweep: expected a model whose output is made of tensors [{count}, ...], got {got}")

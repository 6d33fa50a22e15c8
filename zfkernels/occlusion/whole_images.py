"""The sweep of what cannot run on windows: the model itself, on whole occluded images."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from zfkernels.network import run_model, tensors_of
from zfkernels.network.tree import map_leaves
from zfkernels.occlusion.arguments import NAME
from zfkernels.occlusion.collect import SweepValues, check_targets

Advance = Callable[[int], object]
BATCH = 32  # images that go through the model together where nothing else is asked for


class WholeSweep:
    """Runs any callable on whole occluded images; call it with batches of images.

    Args:
        model: of images [N, C, H, W]; what it writes into them stays here.
        boxes: int [..., 4] (top, left, height, width), what is hidden, one at a time.
        alone: run each image, and each occluded image, by itself, as models need it whose images depend on each other.
    """

    def __init__(self, model: Callable[[Tensor], Any], boxes: Tensor, alone: bool) -> None:
        self.model, self.boxes, self.alone = model, boxes, alone

    def __call__(
        self,
        images: Tensor,
        fill: Tensor,
        *,
        targets: Tensor | None = None,
        batch_size: int | None = None,
        advance: Advance = lambda count: None,
    ) -> SweepValues:
        """Sweeps over images; arguments and result as of :class:`~zfkernels.occlusion.engine.WindowSweep`.

        Raises:
            ValueError: the model's images are independent of each other, and an output has not one row for each.
        """
        boxes = self.boxes.reshape(-1, 4).to(images.device)
        clean = self._clean(images)
        tensors = tensors_of(clean)
        if targets is not None:
            check_targets(tensors, targets, NAME)
        shape = (len(images), *self.boxes.shape[:-1])
        total, batch = math.prod(shape), 1 if self.alone else batch_size or BATCH
        kept = tensors if targets is None else [tensors[0][:, targets]]
        held = [value.new_empty((total, *value.shape[1:])) for value in kept]
        for entry in torch.arange(total, device=images.device).split(batch) if total else ():
            image, position = entry // len(boxes), entry % len(boxes)
            found = tensors_of(self._run(hide(images, image, boxes[position], fill)))
            for result, value in zip(held, found, strict=True):
                result[entry] = value if targets is None else value[:, targets]
            advance(len(entry))
        rest = iter([value.unflatten(0, shape) for value in held])
        outputs = map_leaves(lambda leaf: next(rest) if isinstance(leaf, Tensor) else leaf, clean)
        return SweepValues(clean, outputs, None, None, batch)

    def _clean(self, images: Tensor) -> Any:
        if self.alone and len(images):
            return _stacked([_row(self._call(image[None])) for image in images])
        clean = self._call(images)
        if not self.alone:
            _check_rows(clean, len(images))
        return clean

    def _run(self, occluded: Tensor) -> Any:
        out = self._call(occluded)
        return (
            map_leaves(lambda leaf: leaf[None] if isinstance(leaf, Tensor) else leaf, _row(out)) if self.alone else out
        )

    def _call(self, batch: Tensor) -> Any:
        return run_model(self.model, batch) if isinstance(self.model, nn.Module) else self.model(batch.contiguous())


def hide(images: Tensor, image: Tensor, boxes: Tensor, fill: Tensor) -> Tensor:
    """Whole occluded images [K, C, H, W].

    Args:
        images: [N, C, H, W].
        image: int64 [K], which of them.
        boxes: int [K, 4] (top, left, height, width), what is hidden of each.
        fill: what is shown instead: [C], or an image for each image [N, C, H, W].
    """
    hidden = None
    for axis in (0, 1):
        first, length = boxes[:, axis, None], boxes[:, axis + 2, None]
        at = torch.arange(images.shape[axis + 2], device=images.device)
        inside = (at >= first) & (at < first + length)
        hidden = inside[:, :, None] if hidden is None else hidden & inside[:, None, :]
    assert hidden is not None
    shown = fill[:, None, None] if fill.dim() == 1 else fill.index_select(0, image)
    return torch.where(hidden[:, None], shown, images.index_select(0, image))


def _row(output: Any) -> Any:
    """The output for one image without the axis of the images, where there is one."""

    def row(leaf: Any) -> Any:
        return leaf[0] if isinstance(leaf, Tensor) and leaf.dim() and len(leaf) == 1 else leaf

    return map_leaves(row, output)


def _stacked(outputs: list[Any]) -> Any:
    columns = iter([torch.stack(column) for column in zip(*map(tensors_of, outputs), strict=True)])
    return map_leaves(lambda leaf: next(columns) if isinstance(leaf, Tensor) else leaf, outputs[0])


def _check_rows(output: Any, count: int) -> None:
    tensors = tensors_of(output)
    wrong = [tuple(leaf.shape) for leaf in tensors if not leaf.dim() or len(leaf) != count]
    if wrong or not tensors:
        got = wrong[0] if wrong else type(output).__name__
        raise ValueError(f"{NAME}: expected a model whose output is made of tensors [{count}, ...], got {got}")

"""The sweep of what cannot run on windows: the model itself, on whole occluded images."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from zfkernels.network import run_model, tensors_of, users_context
from zfkernels.network.tree import map_leaves
from zfkernels.occlusion.arguments import NAME
from zfkernels.occlusion.collect import Outputs, Reduce, SweepValues, check_targets
from zfkernels.occlusion.cover import Cover, hide
from zfkernels.occlusion.engine import Advance, Clean

BATCH = 32  # images that go through the model together where nothing else is asked for


class WholeSweep:
    """Runs any callable on whole occluded images; call it with batches of images.

    Args:
        model: of images [N, C, H, W]; what it writes into them stays here.
        boxes: int [..., 4] (top, left, height, width), what is hidden, one at a time.
        alone: run each image, and each occluded image, by itself, as models need it whose images depend on each other.
        reduce: what is kept of a batch's outputs, see :mod:`.reduce`; None: all.
    """

    def __init__(
        self, model: Callable[[Tensor], Any], boxes: Tensor, alone: bool, reduce: Reduce | None = None
    ) -> None:
        self.model, self.boxes, self.alone, self.reduce = model, boxes, alone, reduce

    @torch.no_grad()
    def __call__(
        self,
        images: Tensor | Clean,
        cover: Tensor | Cover,
        *,
        targets: Tensor | None = None,
        batch_size: int | None = None,
        memory: int | None = None,
        advance: Advance = lambda count: None,
    ) -> SweepValues:
        """Sweeps over images; arguments and result as of :class:`~zfkernels.occlusion.engine.WindowSweep`.

        ``memory`` is not looked at: nothing is known of what a function takes.

        Raises:
            ValueError: the model's images are independent of each other, and an output has not one row for each.
        """
        clean = images if isinstance(images, Clean) else self.clean(images)
        images = clean.images
        boxes = self.boxes.reshape(-1, 4)
        if targets is not None:
            check_targets(tensors_of(clean.output), targets, NAME)
        shape = (len(images), *self.boxes.shape[:-1])
        total, batch = math.prod(shape), 1 if self.alone else batch_size or BATCH
        moving = [True] * len(tensors_of(clean.output))
        outputs = Outputs(clean.output, moving, len(images), total, targets, self.reduce, images.device)
        cover = (Cover(cover) if isinstance(cover, Tensor) else cover).to(images)
        for entry in torch.arange(total).split(batch) if total else ():
            position, image = entry % len(boxes), (entry // len(boxes)).to(images.device)
            occluded = hide(images, image, position.to(images.device), boxes[position], cover)
            outputs.store(int(entry[0]), self._run(occluded), image)
            advance(len(entry))
        return SweepValues(outputs.clean, outputs.result(shape), (), batch)

    def clean(self, images: Tensor) -> Clean:
        """The clean pass; several sweeps of the same images may share it."""
        return Clean(images, {}, {}, self._clean(images))

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
        if isinstance(self.model, nn.Module):
            return run_model(self.model, batch)
        with users_context():
            return self.model(batch.contiguous())


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

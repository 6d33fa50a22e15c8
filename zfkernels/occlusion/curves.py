"""Deletion and insertion curves: squares that are removed from, or revealed to, an image one after the other.

Each step changes one square of the image that the step before left; :mod:`.turns` computes all steps together.
Source: Petsiuk, Das & Saenko 2018 (arXiv 1806.07421).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from zfkernels.checks import check_images, is_int_tensor, recording_for
from zfkernels.geometry import Pair
from zfkernels.network import Ref, without_autocast
from zfkernels.occlusion.arguments import check_finite, check_positive, grid, to_pair
from zfkernels.occlusion.cover import Cover
from zfkernels.occlusion.engine import WindowSweep
from zfkernels.occlusion.fills import cover_of
from zfkernels.occlusion.sweeper import examine
from zfkernels.occlusion.turns import in_turn
from zfkernels.occlusion.where import Changes
from zfkernels.ops import fixed_weights
from zfkernels.progress import progress_bar
from zfkernels.signed import signed


@dataclass(frozen=True)
class OcclusionCurve:
    """The model's outputs while an image is hidden, or shown, square by square.

    Attributes:
        outputs: [N, steps + 1, classes], first before any step.
        order: int64 [N, steps], which square of the grid each step is, in row-major order.
        window: (height, width) of the squares.
        grid: (rows, columns) of squares.
    """

    outputs: Tensor
    order: Tensor
    window: Pair
    grid: Pair

    def values(self, target: int | Tensor, *, activation: str | None = "softmax") -> Tensor:
        """[N, steps + 1]: a class's probability after each step; ``activation`` None: its raw output."""
        values = self.outputs.softmax(2) if activation == "softmax" else self.outputs
        classes = torch.as_tensor(target, device=values.device).expand(len(values))
        return values.gather(2, classes[:, None, None].expand(-1, values.shape[1], 1))[:, :, 0]

    def area(self, target: int | Tensor, *, activation: str | None = "softmax") -> Tensor:
        """[N]: the area under the curve by the trapezoidal rule, the steps together 1 wide."""
        values = self.values(target, activation=activation)
        return torch.trapezoid(values, dim=1) / max(1, values.shape[1] - 1)


@signed("deletion_curve")
def deletion_curve(
    model: nn.Module,
    images: Tensor,  # [N, C, H, W]
    order: Tensor,
    *,
    window: int | Pair,
    steps: int | None = None,
    fill: Any = 0.0,
    memory: int | None = None,
    progress: bool = False,
    backend: str | None = None,
) -> OcclusionCurve:
    """The outputs while squares of a grid are hidden one after the other, the most important first.

    Args:
        model: an nn.Module in eval mode that can be recorded and returns [N, classes].
        images: [N, C, H, W], in the model's input units.
        order: int [squares] or [N, squares], a permutation of the grid's squares in row-major order, the first to be
            changed first; or an attribution, float [rows, cols] or [N, rows, cols] (one number a square), or [H, W] or
            [N, H, W] (summed over each square): the largest first, of equals the first in row-major order.
        window: (height, width) of the squares, in pixels; those at the last row and column may be clipped.
        steps: how many squares; None: all.
        fill: what the hidden squares show: as of :func:`zfkernels.occlusion_sweep`, except "blur" and one for each
            position.
        memory: bytes that the windows of the steps that run together may take; None: 64 MiB on a CPU, 2 GiB on a GPU,
            or what one step takes if that is more. What one layer reads around these windows comes on top.
        progress: show a progress bar.
        backend: variant of the ops, asked for by name; None chooses by device.

    Returns:
        :class:`OcclusionCurve`.

    Raises:
        TypeError: images or arguments of a wrong type or dtype.
        ValueError: images with NaN or infinity, an order that is no permutation of the grid, a map of another size, too
            little ``memory`` for one step, a model that returns something else or whose images depend on each other.
        UnrecordableError: a model that decides by values.
    """
    return _curve("deletion_curve", model, images, order, window, steps, fill, memory, False, progress, backend)


@signed("insertion_curve")
def insertion_curve(
    model: nn.Module,
    images: Tensor,  # [N, C, H, W]
    order: Tensor,
    *,
    window: int | Pair,
    steps: int | None = None,
    fill: Any = 0.0,
    memory: int | None = None,
    progress: bool = False,
    backend: str | None = None,
) -> OcclusionCurve:
    """The outputs while squares of a hidden image are revealed one after the other; arguments as of deletion_curve."""
    return _curve("insertion_curve", model, images, order, window, steps, fill, memory, True, progress, backend)


@torch.no_grad()
@without_autocast()
def _curve(
    name: str,
    model: nn.Module,
    images: Tensor,
    order: Tensor,
    window: int | Pair,
    steps: int | None,
    fill: Any,
    memory: int | None,
    reveal: bool,
    progress: bool,
    backend: str | None,
) -> OcclusionCurve:
    check_images(name, images, model if isinstance(model, nn.Module) else None)
    check_finite(name, images)
    square, size = to_pair(name, "window", window), (images.shape[2], images.shape[3])
    if square[0] > size[0] or square[1] > size[1]:
        raise ValueError(f"{name}: expected window no larger than the images {size}, got {square}")
    places = grid(size, square, square)
    boxes = torch.cat([places, torch.tensor(square).expand_as(places)], -1).reshape(-1, 4)
    chosen = _order(name, order, len(images), (places.shape[0], places.shape[1]), size, boxes)
    whole = isinstance(steps, int) and not isinstance(steps, bool)
    if steps is not None and not (whole and 1 <= steps <= len(boxes)):
        raise ValueError(f"{name}: expected steps from 1 to {len(boxes)}, got {steps!r}")
    check_positive(name, "memory", memory)
    chosen = chosen[:, :steps]
    recording = recording_for(name, model, images)
    output = recording.outputs
    if not isinstance(output, Ref) or len(recording.by_name[output.name].shape) != 2:
        raise ValueError(f"{name}: expected model that returns [N, classes], got one that returns something else")
    cover = cover_of(fill, images, Changes(boxes, square))
    if cover.weight is not None or cover.each is not None:
        got = fill if isinstance(fill, str) else "one for each"
        raise ValueError(f"{name}: expected fill that is the same at all positions, got {got}")
    verdict = examine(recording, images, boxes, cover)
    if verdict.differs or verdict.mixes:
        reason = verdict.differs or verdict.mixes
        raise ValueError(f"{name}: expected model that runs on windows, got one of which {reason}")
    shown = cover.fill[:, None, None].expand_as(images) if cover.fill.dim() == 1 else cover.fill
    first, then = (shown, images) if reveal else (images, cover.fill)
    sweep = WindowSweep(recording, boxes, backend=backend)
    with progress_bar(chosen.numel(), "steps", progress) as advance, fixed_weights():
        outputs = in_turn(sweep, first, Cover(then.contiguous()), chosen, memory, advance, name)
    return OcclusionCurve(outputs, chosen, square, (places.shape[0], places.shape[1]))


def _order(name: str, order: Any, images: int, counts: Pair, size: Pair, boxes: Tensor) -> Tensor:
    """int64 [N, squares] of an order or an attribution."""
    squares = counts[0] * counts[1]
    if not isinstance(order, Tensor) or order.dtype == torch.bool or order.is_complex():
        got = order.dtype if isinstance(order, Tensor) else type(order).__name__
        raise TypeError(f"{name}: expected order an int or float tensor, got {got}")
    order = order.detach().cpu()
    if is_int_tensor(order):
        given = order if order.dim() == 2 else order[None]
        if given.dim() != 2 or given.shape[1] != squares or len(given) not in (1, images):
            raise ValueError(
                f"{name}: expected order of shape [{squares}] or [{images}, {squares}], got {tuple(order.shape)}"
            )
        if not torch.equal(given.sort(1).values, torch.arange(squares).expand_as(given)):
            raise ValueError(f"{name}: expected order a permutation of the grid's {squares} squares, got another")
        return given.long().expand(images, -1)
    maps = order if order.dim() == 3 else order[None]
    if maps.dim() != 3 or len(maps) not in (1, images) or tuple(maps.shape[1:]) not in (counts, size):
        raise ValueError(
            f"{name}: expected order a map of the grid {counts} or of the images {size}, got {tuple(order.shape)}"
        )
    if not maps.isfinite().all():
        raise ValueError(f"{name}: expected order of finite values, got NaN or infinity")
    if tuple(maps.shape[1:]) != counts:
        sums = [maps[:, t : t + h, w : w + n].sum((1, 2)) for t, w, h, n in boxes.tolist()]
        maps = torch.stack(sums, 1)
    return maps.flatten(1).argsort(dim=1, descending=True, stable=True).expand(images, -1)

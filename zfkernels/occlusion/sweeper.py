"""A network made ready for sweeps, on windows or, where it cannot run on them, on whole images."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from zfkernels.checks import check_images, recording_for
from zfkernels.geometry import Pair
from zfkernels.network import (
    Recording,
    UnrecordableError,
    Verdict,
    batch_matters,
    check,
    refuse_training,
    undisturbed,
)
from zfkernels.occlusion.arguments import NAME, dtype_of, fill_of, grid, positions_of, targets_of, to_pair
from zfkernels.occlusion.engine import WindowSweep
from zfkernels.occlusion.precision import say_if_no_faster
from zfkernels.occlusion.whole_images import WholeSweep, hide
from zfkernels.progress import progress_bar
from zfkernels.results import Look, OcclusionMap

SIZES = 4  # sizes of images whose plans are kept


class Sweeper:
    """A network made ready for sweeps: recorded and planned once for each size of image."""

    def __init__(
        self,
        model: nn.Module | Callable[[Tensor], Any],
        window: int | Pair,
        stride: int | Pair | None,
        positions: Tensor | None,
        layer: str | None,
        precision: torch.dtype | str | None,
        backend: str | None,
    ) -> None:
        self.precision = None if precision is None else dtype_of(precision)
        if self.precision is not None and isinstance(model, nn.Module):
            model = copy.deepcopy(model).to(self.precision)
        self.model, self.backend, self.look = model, backend, Look.of(model)
        self.window = to_pair(NAME, "window", window)
        self.stride = self.window if stride is None else to_pair(NAME, "stride", stride)
        if positions is not None and stride is not None:
            raise ValueError(f"{NAME}: expected stride or positions, got both")
        self.positions = positions
        if not callable(model):
            raise TypeError(f"{NAME}: expected model an nn.Module or a function, got {type(model).__name__}")
        if isinstance(model, nn.Module):
            refuse_training(model)
        elif layer is not None:
            raise ValueError(f"{NAME}: expected layer=None for a model that is not an nn.Module, got {layer!r}")
        self.layer, self.warned = layer, False
        self.made: dict[Any, Any] = {}  # filters that all sizes of images share
        self.runs: dict[Pair, WindowSweep | WholeSweep] = {}  # by size of image, the latest last

    @undisturbed()
    def sweep(
        self, images: Tensor, fill: Any, targets: Any, batch_size: int | None, progress: bool = False
    ) -> OcclusionMap:
        """The map of a batch of images; arguments as :func:`occlusion_sweep`'s."""
        if self.precision is not None and isinstance(images, Tensor) and images.is_floating_point():
            images = images.to(self.precision)
            say_if_no_faster(NAME, self.precision, images.device)
        check_images(NAME, images, self.model if isinstance(self.model, nn.Module) else None)
        images = images.detach()
        if not images.isfinite().all():
            raise ValueError(f"{NAME}: expected images of finite values, got NaN or infinity")
        size = (images.shape[2], images.shape[3])
        if self.window[0] > size[0] or self.window[1] > size[1]:
            raise ValueError(f"{NAME}: expected window no larger than the images {size}, got {self.window}")
        if batch_size is not None and (not isinstance(batch_size, int) or batch_size < 1):
            raise ValueError(f"{NAME}: expected batch_size a positive int or None, got {batch_size!r}")
        places = grid(size, self.window, self.stride) if self.positions is None else positions_of(self.positions, size)
        shown = fill_of(fill, images)
        wanted = None if targets is None else targets_of(targets, images.device)
        run = self._run(images, size, places, shown)
        with progress_bar(len(images) * places[..., 0].numel(), "positions", progress) as advance:
            swept = run(images, shown, targets=wanted, batch_size=batch_size, advance=advance)
        return OcclusionMap(
            places, self.window, swept.outputs, swept.clean, wanted, swept.channel, swept.activity, self.look
        )

    def _run(self, images: Tensor, size: Pair, positions: Tensor, fill: Tensor) -> WindowSweep | WholeSweep:
        """The sweep of images of one size; those of the latest few sizes are kept, so that a data set of images of many
        sizes takes no more memory."""
        run = self.runs.pop(size, None) or self._new_run(images, positions, fill)
        self.runs[size] = run
        if len(self.runs) > SIZES:
            del self.runs[next(iter(self.runs))]
        return run

    def _new_run(self, images: Tensor, positions: Tensor, fill: Tensor) -> WindowSweep | WholeSweep:
        boxes = torch.cat([positions, torch.tensor(self.window).expand_as(positions)], -1)
        if not isinstance(self.model, nn.Module):
            return WholeSweep(self.model, boxes, False)
        try:
            recording = recording_for(NAME, self.model, images)
        except UnrecordableError as error:
            if self.layer is not None:
                raise
            self._warn(error.reason)
            return WholeSweep(self.model, boxes, _mixes(self.model, images))
        watched = None if self.layer is None else recording.resolve(self.layer)
        verdict = examine(recording, images, boxes, fill)
        if verdict.mixes or verdict.differs:
            if self.layer is not None:
                raise ValueError(f"{NAME}: expected layer=None for a model of which {verdict.mixes or verdict.differs}")
            self._warn(verdict.mixes or verdict.differs)
            return WholeSweep(self.model, boxes, bool(verdict.mixes) or _mixes(self.model, images))
        return WindowSweep(recording, boxes, watched, self.backend, made=self.made)

    def _warn(self, reason: str) -> None:
        if not self.warned:
            name = type(self.model).__name__
            warnings.warn(f"{NAME}: {name} runs on whole images: {reason}", RuntimeWarning, stacklevel=5)
        self.warned = True


def examine(recording: Recording, images: Tensor, boxes: Tensor, fill: Tensor) -> Verdict:
    """Whether the recording is what the model computes, found out on the first image and an occluded one.

    Args:
        recording: of the model.
        images: [N, C, H, W].
        boxes: int [..., 4], what is hidden; the one in the middle is tried.
        fill: [C], or an image for each image.
    """
    if not len(images):
        return Verdict()
    first, boxes = images[:1], boxes.reshape(-1, 4)
    middle = boxes[len(boxes) // 2][None].to(images.device)
    image = torch.zeros(1, dtype=torch.int64, device=images.device)
    return check(recording, first, hide(first, image, middle, fill if fill.dim() == 1 else fill[:1]))


def _mixes(model: nn.Module, images: Tensor) -> bool:
    """Whether the output of a model for an image depends on the others in its batch."""
    return batch_matters(model, images[:1], images[:1].flip(3)) if len(images) else False

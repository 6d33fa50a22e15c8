"""Occlusion sensitivity with MONAI's arguments and numbers, incremental wherever the model is a recordable network."""

from __future__ import annotations

import contextlib
import importlib.util
import numbers
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from zfkernels.checks import recording_for
from zfkernels.monai_api.scan import TRANSPOSED, Scan, weights
from zfkernels.monai_api.shown import Mode, Shown, refuse_other_modes
from zfkernels.network import Ref, UnrecordableError, undisturbed, users_context
from zfkernels.occlusion.engine import Advance, WindowSweep
from zfkernels.occlusion.sweeper import examine
from zfkernels.progress import progress_bar

NAME = "OcclusionSensitivity"
Span = tuple[int, int]


class OcclusionSensitivity:
    """The class probabilities where a mask hides the image: a drop-in for ``monai.visualize.OcclusionSensitivity``.

    Arguments, places and numbers are MONAI 1.6's. If ``nn_module`` is an nn.Module that can be recorded and the image
    is two-dimensional, only what the mask can change is computed (:func:`zfkernels.occlusion_sweep`); the numbers are
    the same up to rounding. Images of one or three dimensions, calls with further arguments, and models
    that cannot be recorded or whose images depend on each other run whole, as in MONAI.

    As in MONAI, ``activate=True`` takes the sigmoid of each class where the *image* has one channel, the softmax where
    it has several. Pass ``activate=lambda out: out.softmax(1)`` for a softmax of single-channel images.

    Differs from MONAI 1.6, whose numbers are not what its documentation says there: ``mode="mean_patch"`` shows the
    mean of what is hidden (MONAI multiplies what is hidden by its mean); of a network with one output
    ``activate=True`` is always its sigmoid (MONAI's softmax over one class is 1 everywhere); a function as ``mode``
    works (MONAI raises a RuntimeError); ``mode`` may be an int; a ``b_box`` without a cell is refused (MONAI returns
    zeros). Results are tensors, not MetaTensors. Each module inside ``nn_module`` is afterwards in the mode that it was
    in (MONAI puts all of them into training mode if ``nn_module`` was).

    Args:
        nn_module: a classifier, of images [1, C, *size]; it returns [N, classes].
        mask_size: width of the mask in pixels, one for all axes or one for each.
        n_batch: images that go through the model together where whole images run.
        verbose: show a progress bar if tqdm is installed.
        mode: what the mask shows: "gaussian", the image times 1 minus a gaussian (0 in the middle of the mask);
            "mean_patch", the mean of what is hidden; "mean_img", the mean of the image; a number; or a function of the
            image [1, C, *size] and what is hidden [1, C, *mask_size] that returns what is shown.
        overlap: of neighbouring places, as a fraction of the mask's width, in [0, 1), one for all axes or one for each.
        activate: True, as above; False: the outputs as they are; or a function of the outputs [N, classes].

    Raises:
        TypeError: ``nn_module`` cannot be called, or a mode that is none.
        ValueError: an unknown mode, an overlap out of range, a mask or a batch below 1.
    """

    def __init__(
        self,
        nn_module: Callable[..., Tensor],
        mask_size: int | Sequence[int] = 16,
        n_batch: int = 16,
        verbose: bool = True,
        mode: Mode = "gaussian",
        overlap: float | Sequence[float] = 0.6,
        activate: bool | Callable[[Tensor], Tensor] = True,
    ) -> None:
        if not callable(nn_module):
            raise TypeError(f"{NAME}: expected nn_module a module or a function, got {type(nn_module).__name__}")
        refuse_other_modes(NAME, mode)
        if not isinstance(n_batch, int) or n_batch < 1:
            raise ValueError(f"{NAME}: expected n_batch an int of at least 1, got {n_batch!r}")
        self.nn_module, self.mask_size, self.n_batch, self.verbose = nn_module, mask_size, n_batch, verbose
        self.mode, self.overlap, self.activate = mode, overlap, activate

    @torch.no_grad()
    @undisturbed()
    def __call__(self, x: Tensor, b_box: Sequence[int] | None = None, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """The map of an image, and the most probable class at each of its cells.

        Args:
            x: [1, C, *size], in the model's input units, of one to three axes behind the channels.
            b_box: the part of the image that is wanted: first cell and the cell behind the last of each axis, (min1,
                max1, min2, max2, …). A negative minimum stands for 0, a negative maximum for the axis' end. MONAI's
                documentation calls the maximum inclusive; its results, and these, end before it.
            **kwargs: further arguments of the model.

        Returns:
            A tensor [1, classes, *size] of the image's dtype (MONAI's is float32): at each cell the mean of the
            probabilities over the places of the mask that cover it (with ``mode="gaussian"`` weighted by the distance
            from the place's middle); and int64 [1, 1, *size], the class where it is largest.

        Raises:
            TypeError: an image that is no floating tensor.
            ValueError: more than one image, a mask larger than the image, a part without a cell, a model that returns
                something else.
        """
        if not isinstance(x, Tensor) or not x.is_floating_point():
            raise TypeError(f"{NAME}: expected x a floating tensor, got {getattr(x, 'dtype', type(x).__name__)}")
        axes = x.dim() - 2
        if axes not in TRANSPOSED or len(x) != 1:
            raise ValueError(f"{NAME}: expected x one image [1, C, *size] of one to three axes, got {tuple(x.shape)}")
        x = x.detach().as_subclass(Tensor)
        size = tuple(x.shape[2:])
        mask = self._for_each_axis("mask_size", self.mask_size, axes, int)
        overlap = self._for_each_axis("overlap", self.overlap, axes, float)
        wanted, around = _parts(size, mask, b_box)
        scan = Scan.over(around, mask if b_box is None else _fitting(mask, around), overlap)
        if any(side > length for side, length in zip(scan.mask, scan.size, strict=True)):
            raise ValueError(f"{NAME}: expected mask_size no larger than the image {size}, got {mask}")
        outputs = self._outputs(x, scan, kwargs)
        exact = torch.promote_types(x.dtype, torch.float32)
        weight = weights(scan.mask, self.mode == "gaussian").to(x.device, exact)
        map_ = scan.blend(self._activated(outputs, x.shape[1]).to(exact), weight).to(x.dtype)
        inside = (slice(low - first, high - first) for (low, high), (first, _) in zip(wanted, around, strict=True))
        cells = (None, slice(None), *inside)
        map_ = map_[cells].contiguous()
        return map_, map_.argmax(1, keepdim=True)

    def _for_each_axis(self, name: str, value: Any, axes: int, kind: type) -> tuple[Any, ...]:
        values = tuple(value) if isinstance(value, Sequence) else (value,) * axes
        if len(values) != axes or not all(isinstance(v, numbers.Real) and v == kind(v) for v in values):
            raise ValueError(f"{NAME}: expected {name} a number or one for each of {axes} axes, got {value!r}")
        if kind is int and min(values) < 1:
            raise ValueError(f"{NAME}: expected {name} at least 1, got {value!r}")
        if kind is float and not all(0 <= v < 1 for v in values):
            raise ValueError(f"{NAME}: expected {name} at least 0 and below 1, got {value!r}")
        return tuple(kind(v) for v in values)

    def _outputs(self, x: Tensor, scan: Scan, kwargs: dict[str, Any]) -> Tensor:
        """[P, classes]: what the model returns with the mask at each place."""
        places, shown = scan.places(), Shown(self.mode, scan.mask, x)
        show = self.verbose and importlib.util.find_spec("tqdm") is not None
        with _evaluating(self.nn_module), progress_bar(len(places), "positions", show) as advance:
            found = None
            if isinstance(self.nn_module, nn.Module) and x.dim() == 4 and not kwargs and bool(x.isfinite().all()):
                found = _on_windows(self.nn_module, shown, places, advance)
            return self._whole(shown, places, kwargs, advance) if found is None else found

    def _whole(self, shown: Shown, places: Tensor, kwargs: dict[str, Any], advance: Advance) -> Tensor:
        """The outputs of whole occluded images, ``n_batch`` at a time."""
        found = []
        for some in places.split(self.n_batch):
            images = shown.x.repeat(len(some), *[1] * (shown.x.dim() - 1))
            for number, place in enumerate(some.tolist()):
                images[number : number + 1][shown.cells(place)] = shown.at(place)
            with users_context():
                outputs = self.nn_module(images, **kwargs)
            found.append(_rows("nn_module", outputs, len(some)))
            advance(len(some))
        return torch.cat(found)

    def _activated(self, outputs: Tensor, channels: int) -> Tensor:
        if callable(self.activate):
            return _rows("activate", self.activate(outputs), len(outputs))
        if not self.activate:
            return outputs
        return outputs.sigmoid() if channels == 1 or outputs.shape[1] == 1 else outputs.softmax(1)


def _on_windows(model: nn.Module, shown: Shown, places: Tensor, advance: Advance) -> Tensor | None:
    """[P, classes] by an incremental sweep; None for a model that cannot run on windows."""
    try:
        recording = recording_for(NAME, model, shown.x)
    except UnrecordableError:
        return None
    output = recording.outputs
    if not isinstance(output, Ref) or len(recording.by_name[output.name].shape) != 2:
        return None
    boxes = torch.cat([places, torch.tensor(shown.mask).expand(len(places), -1)], 1)
    cover = shown.cover(places)
    verdict = examine(recording, shown.x, boxes, cover)
    if verdict.differs or verdict.mixes:
        return None
    return WindowSweep(recording, boxes)(shown.x, cover, advance=advance).outputs[0]


@contextlib.contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    """The model in eval mode; behind it each of its modules as it was."""
    training = [m for m in model.modules() if m.training] if isinstance(model, nn.Module) else []
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _parts(size: Sequence[int], mask: Sequence[int], b_box: Sequence[int] | None) -> tuple[list[Span], list[Span]]:
    """First cell and the cell behind the last, along each axis: of what is wanted; of where the mask goes for it."""
    if b_box is None:
        return [(0, length) for length in size], [(0, length) for length in size]
    if len(b_box) != 2 * len(size) or not all(isinstance(cell, numbers.Integral) for cell in b_box):
        raise ValueError(f"{NAME}: expected b_box a first and a last cell for each of {len(size)} axes, got {b_box!r}")
    wanted, around = [], []
    for low, high, length, side in zip(b_box[::2], b_box[1::2], size, mask, strict=True):
        edge = (side - 1) // 2
        last = length if high < 0 else min(high, length)
        if last <= max(low, 0):
            raise ValueError(f"{NAME}: expected b_box with a cell inside the image {tuple(size)}, got {tuple(b_box)}")
        wanted.append((max(low, 0), last))
        around.append((max(low - edge, 0), length if high < 0 else min(high + edge, length)))
    return wanted, around


def _fitting(mask: Sequence[int], around: Sequence[Span]) -> list[int]:
    return [min(side, last - first) for side, (first, last) in zip(mask, around, strict=True)]


def _rows(name: str, outputs: Any, count: int) -> Tensor:
    if not isinstance(outputs, Tensor) or outputs.dim() != 2 or len(outputs) != count:
        got = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        raise ValueError(f"{NAME}: expected {name} to return a tensor [{count}, classes], got {got}")
    return outputs

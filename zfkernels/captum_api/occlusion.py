"""Occlusion with Captum's arguments and numbers, incremental wherever the model is a network that can be recorded."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from zfkernels.captum_api.arguments import (
    Forward,
    Inputs,
    RefusedType,
    RefusedValue,
    as_arguments,
    as_inputs,
    as_tensors,
    select,
)
from zfkernels.captum_api.attribution import Attribution, attributing
from zfkernels.captum_api.bound import as_module
from zfkernels.checks import as_int, recording_for
from zfkernels.network import Recording, Ref, Sized, UnrecordableError, refuse_training, users_context
from zfkernels.occlusion.cost import rates_of
from zfkernels.occlusion.cover import Cover
from zfkernels.occlusion.engine import Advance, WindowSweep
from zfkernels.occlusion.sweeper import examine
from zfkernels.progress import progress_bar

NAME = "Occlusion"
Shape = tuple[int, ...]


class Occlusion(Attribution):
    """How much the output falls where a window hides the input: a drop-in for ``captum.attr.Occlusion``.

    Each place of the window is replaced by the baseline in turn; a cell's attribution is the mean of clean minus
    occluded output over the windows that cover it. Arguments, places, clipping and numbers are Captum 0.9's. If
    ``forward_func`` is an nn.Module that can be recorded, or a method of one (``model.forward``), ``inputs`` one batch
    of images [N, C, H, W] and the output [N, classes] or [N], only what the window can change is computed
    (:func:`zfkernels.occlusion_sweep`); the numbers are the same up to rounding. Everything else is run
    whole, as Captum does it.

    A NaN in an input makes all attributions NaN, as the clean output is. Differs from Captum: a module with dropout or
    batch normalisation in training mode is refused.

    Source: Zeiler & Fergus 2013 (arXiv 1311.2901), section 4.2, figure 7.

    Args:
        forward_func: a module, or any function of the inputs (and of further arguments) that returns a tensor or a
            number.

    Raises:
        TypeError: ``forward_func`` cannot be called.
    """

    twin = "Occlusion"

    def __init__(self, forward_func: Forward) -> None:
        if not callable(forward_func):
            raise TypeError(f"{NAME}: expected forward_func a function, got {type(forward_func).__name__}")
        super().__init__(forward_func)
        self._run = as_module(forward_func)

    @property
    def multiplies_by_inputs(self) -> bool:
        """True, as in Captum: what is removed is the input itself."""
        return True

    @attributing
    def attribute(
        self,
        inputs: Inputs,
        sliding_window_shapes: Shape | tuple[Shape, ...],
        strides: int | Shape | tuple[int | Shape, ...] | None = None,
        baselines: float | Tensor | tuple[float | Tensor, ...] | None = None,
        target: Any = None,
        additional_forward_args: Any = None,
        perturbations_per_eval: int = 1,
        show_progress: bool = False,
    ) -> Any:
        """Attributions of every cell of every input.

        Args:
            inputs: a tensor [N, ...] or a tuple of them.
            sliding_window_shapes: the window without the batch axis, e.g. (channels, height, width); for a tuple of
                inputs a tuple of windows.
            strides: from one place to the next, an int or one for each axis; for a tuple of inputs a tuple of these.
                None: 1. No larger than the window, unless the window spans the axis.
            baselines: what the window shows, in the inputs' units: a number or a tensor that broadcasts to the input
                (one image; [C, 1, 1] for one value a channel); for a tuple of inputs a tuple of these. None: 0.
            target: the output to explain: an int or a tuple (of each example's output), an int tensor [N], a list of N
                ints or of N tuples. None: every output.
            additional_forward_args: one further argument of ``forward_func`` or a tuple of them. Tensors are repeated
                along their first axis, as the inputs are.
            perturbations_per_eval: at most this many occluded copies of the inputs are held at once, or values on
                windows that take no more room.
            show_progress: show a progress bar.

        Returns:
            For each input a float32 tensor of its shape; if ``target`` names k outputs in all, and not one for each
            example, [k, ...], in the order of the outputs. In the form of ``inputs``.

        Raises:
            AssertionError: what Captum refuses by assertion; also a ValueError, or a TypeError for a wrong type.
            TypeError: images of another dtype than the model's.
            ValueError: a window or stride below 1, a module in training mode, images on another device.
            IndexError: a target outside of the output.
        """
        tensors = as_tensors(NAME, inputs)
        grids = _grids(tensors, sliding_window_shapes, strides)
        shown = _baselines(tensors, baselines)
        arguments = as_arguments(additional_forward_args)
        at_once = as_int(perturbations_per_eval)
        if not isinstance(at_once, int) or at_once < 1:
            raise RefusedValue(f"{NAME}: expected perturbations_per_eval an int of at least 1, got {at_once!r}")
        recording = _recording(self._run, tensors, arguments, grids)
        clean = _called(self.forward_func, [*tensors, *arguments])
        wanted = select(NAME, torch.arange(clean.numel(), device=clean.device).view(clean.shape), target).flatten()
        count = len(tensors[0]) * sum(math.prod(grid.counts) for grid in grids)
        with progress_bar(count, "positions", show_progress, name=f"{self.get_name()} attribution") as advance:
            if recording is not None:
                shape = clean.shape if clean.dim() == 2 else (*clean.shape, 1)
                place = wanted // shape[1], wanted % shape[1]
                effects = [_sweep(recording, tensors[0], grids[0], shown[0], place, at_once, advance)]
            else:
                run = _Whole(self.forward_func, tensors, arguments, clean, wanted, at_once, advance)
                effects = [run(index, grid, shown[index]) for index, grid in enumerate(grids)]
        return as_inputs(inputs, tuple(grid.spread(effect) for grid, effect in zip(grids, effects, strict=True)))


@dataclass(frozen=True)
class _Grid:
    """The places of a window on one input: for each axis behind the batch their first cells [count], and which cells
    each covers, bool [count, length]. A window that hangs over the end is clipped."""

    window: Shape
    starts: tuple[Tensor, ...]
    covers: tuple[Tensor, ...]

    @property
    def counts(self) -> Shape:
        return tuple(len(start) for start in self.starts)

    def mask(self, places: Tensor) -> Tensor:
        """bool [P, *shape]: the cells that the window covers at ``places`` [P], counted in row-major order."""
        mask = torch.ones((len(places),), dtype=torch.bool, device=places.device)
        for axis, index in enumerate(torch.unravel_index(places, self.counts)):
            cover = self.covers[axis][index]
            mask = mask[..., None] & cover.view(len(places), *[1] * axis, -1)
        return mask

    def spread(self, effect: Tensor) -> Tensor:
        """Mean over the windows that cover each cell: [k, *counts] → float32 [k, *shape]."""
        total = effect.to(torch.promote_types(effect.dtype, torch.float32))
        times = total.new_ones(())
        for cover in self.covers:
            cover = cover.to(total)
            total = torch.tensordot(total, cover, ([1], [0]))
            times = times[..., None] * cover.sum(0)
        return total.float() / times.float()


def _grids(tensors: Sequence[Tensor], windows: Any, strides: Any) -> list[_Grid]:
    windows, strides = as_int(windows), as_int(strides)
    if isinstance(windows, tuple) and all(isinstance(side, int) for side in windows):
        windows = (windows,)
    if not isinstance(windows, tuple) or len(windows) != len(tensors):
        raise RefusedValue(f"{NAME}: expected sliding_window_shapes one tuple for each input, got {windows!r}")
    if strides is None:
        strides = (1,) * len(tensors)
    elif len(tensors) == 1 and not (isinstance(strides, tuple) and len(strides) == 1):
        strides = (strides,)
    if not isinstance(strides, tuple) or len(strides) != len(tensors):
        raise RefusedValue(f"{NAME}: expected strides an int or a tuple for each input, got {strides!r}")
    return [_grid(*each) for each in zip(tensors, windows, strides, strict=True)]


def _grid(tensor: Tensor, window: Any, stride: Any) -> _Grid:
    shape = tuple(tensor.shape[1:])
    stride = (stride,) * len(shape) if isinstance(stride, int) else stride
    for argument, sides in (("sliding_window_shapes", window), ("strides", stride)):
        if not isinstance(sides, tuple) or len(sides) != len(shape) or not all(isinstance(s, int) for s in sides):
            raise RefusedValue(
                f"{NAME}: expected {argument} {len(shape)} ints for an input of shape {tuple(tensor.shape)}, "
                f"got {sides!r}"
            )
        if min(sides, default=1) < 1:
            raise ValueError(f"{NAME}: expected {argument} at least 1, got {sides}")
    starts, covers = [], []
    for length, side, step in zip(shape, window, stride, strict=True):
        if side > length:
            raise RefusedValue(f"{NAME}: expected sliding_window_shapes no larger than {shape}, got {window}")
        if step > side < length:
            raise RefusedValue(f"{NAME}: expected strides no larger than the window {window}, got {stride}")
        start = torch.arange(-(-(length - side) // step) + 1, device=tensor.device) * step
        cell = torch.arange(length, device=tensor.device)
        starts.append(start)
        covers.append((cell >= start[:, None]) & (cell < start[:, None] + side))
    return _Grid(window, tuple(starts), tuple(covers))


def _baselines(tensors: Sequence[Tensor], baselines: Any) -> list[Tensor]:
    """What the windows show in each input: tensors that broadcast to it."""
    given = (0,) * len(tensors) if baselines is None else baselines if isinstance(baselines, tuple) else (baselines,)
    if len(given) != len(tensors):
        raise RefusedValue(f"{NAME}: expected baselines one for each input, got {len(given)} for {len(tensors)}")
    shown = []
    for tensor, baseline in zip(tensors, given, strict=True):
        if not isinstance(baseline, (Tensor, int, float)):
            raise RefusedType(f"{NAME}: expected baselines numbers or tensors, got {type(baseline).__name__}")
        kept = tensor.dtype if tensor.is_floating_point() or tensor.dtype == torch.bool else None  # 0.5 among ints
        baseline = torch.as_tensor(baseline, dtype=kept, device=tensor.device).detach()
        shape = tuple(baseline.shape)
        behind = zip(reversed(shape), reversed(tensor.shape), strict=False)
        if len(shape) > tensor.dim() or any(length not in (1, full) for length, full in behind):
            raise ValueError(
                f"{NAME}: expected baselines that broadcast to an input of shape {tuple(tensor.shape)}, got {shape}"
            )
        shown.append(baseline)
    return shown


def _called(forward: Callable[..., Any], arguments: Sequence[Any]) -> Tensor:
    """The output of ``forward`` as a tensor."""
    with users_context():
        output = forward(*arguments)
    if isinstance(output, (Tensor, int, float)):
        return torch.as_tensor(output, dtype=torch.float64 if isinstance(output, float) else None)
    raise RefusedType(f"{NAME}: expected forward_func to return a tensor or a number, got {type(output).__name__}")


def _recording(
    forward: Any, tensors: tuple[Tensor, ...], arguments: tuple[Any, ...], grids: Sequence[_Grid]
) -> Recording | None:
    """The recording of a module of images that returns [N, classes] or [N]; None for what runs whole."""
    if not isinstance(forward, nn.Module):
        return None
    refuse_training(forward)
    images = tensors[0]
    if len(tensors) > 1 or arguments or images.dim() != 4 or not images.is_floating_point():
        return None
    if not images.isfinite().all():  # a ReLU inside a product may lose a NaN
        return None
    try:
        recording = recording_for(NAME, forward, images)
    except UnrecordableError:
        return None
    output = recording.outputs
    if not isinstance(output, Ref) or not _is_scores(recording.by_name[output.name].shape):
        return None
    grey = Cover(images.new_zeros(images.shape[1]))
    verdict = examine(recording, images, torch.tensor([0, 0, *grids[0].window[1:]]), grey)
    return None if verdict.differs or verdict.mixes else recording


def _is_scores(shape: tuple[Any, ...]) -> bool:
    return len(shape) in (1, 2) and shape[0] == Sized(1, 0)


def _sweep(
    recording: Recording,
    images: Tensor,  # [N, C, H, W]
    grid: _Grid,
    shown: Tensor,
    wanted: tuple[Tensor, Tensor],  # image and class, int64 [k] each
    at_once: int,
    advance: Advance,
) -> Tensor:  # [k, *grid.counts]
    """Clean minus occluded output, incrementally; one sweep for each place along the channels."""
    places = torch.cartesian_prod(*grid.starts[1:]).cpu()
    run = WindowSweep(recording, torch.cat([places, torch.tensor(grid.window[1:]).expand_as(places)], 1))
    plan, budget = run.plan(images.device, images.dtype), rates_of(images.device.type).budget
    room = max(plan.least_bytes, min(at_once * len(images) * plan.whole_bytes, budget))
    image, classes = wanted
    targets, column = classes.unique(return_inverse=True)
    one = len(recording.by_name[recording.output_names[0]].shape) == 1
    frame = shown.view((1,) * (4 - shown.dim()) + shown.shape)
    flat = frame.shape[0] == frame.shape[2] == frame.shape[3] == 1
    effects = []
    for covered in grid.covers[0]:
        if flat and covered.all():
            fill = frame.expand(1, images.shape[1], 1, 1).flatten()
        else:
            fill = torch.where(covered[:, None, None], frame, images).contiguous(memory_format=torch.channels_last)
        swept = run(images, fill, targets=None if one else targets, memory=room, advance=advance)
        outputs, clean = (x[..., None] if one else x for x in (swept.outputs, swept.clean))
        effects.append(clean[image, classes, None] - outputs[image, :, column])
    return torch.stack(effects, 1).view(len(image), *grid.counts)


class _Whole:
    """Runs a forward function on whole occluded inputs, at most ``at_once`` copies of each in a call.

    Args:
        forward: of the inputs and the further arguments.
        tensors: the inputs, [N, ...] each.
        arguments: further arguments of ``forward``.
        clean: its output for the inputs as they are.
        wanted: int64 [k], elements of the flattened output.
        at_once: copies in a call.
        advance: told how many inputs were run.
    """

    def __init__(
        self,
        forward: Callable[..., Any],
        tensors: tuple[Tensor, ...],
        arguments: tuple[Any, ...],
        clean: Tensor,
        wanted: Tensor,
        at_once: int,
        advance: Advance,
    ) -> None:
        if at_once > 1 and clean.dim() == 0:
            raise RefusedValue(
                f"{NAME}: expected perturbations_per_eval=1 for an output that is one number, got {at_once}"
            )
        self.forward, self.tensors, self.arguments, self.clean = forward, tensors, arguments, clean
        self.wanted, self.at_once, self.advance = wanted, at_once, advance

    def __call__(self, index: int, grid: _Grid, shown: Tensor) -> Tensor:
        """Clean minus occluded output, [k, *grid.counts], for the input at ``index``."""
        effects = []
        everything = torch.arange(math.prod(grid.counts), device=self.tensors[index].device)
        for places in everything.split(self.at_once):
            inputs = [_repeated(tensor, len(places)) for tensor in self.tensors]
            occluded = torch.where(grid.mask(places)[:, None], shown, self.tensors[index])  # [P, N, ...]
            inputs[index] = occluded.flatten(0, 1)
            further = [_repeated(argument, len(places)) for argument in self.arguments]
            out = _called(self.forward, [*inputs, *further])
            self._check(out, len(places))
            effects.append(self.clean.flatten()[self.wanted] - out.reshape(len(places), -1)[:, self.wanted])
            self.advance(len(places) * len(self.tensors[index]))
        return torch.cat(effects).T.reshape(len(self.wanted), *grid.counts)

    def _check(self, out: Tensor, copies: int) -> None:
        expected = tuple(self.clean.shape)
        if self.at_once > 1:
            expected = (expected[0] * copies, *expected[1:])
        if tuple(out.shape) != expected:
            raise RefusedValue(
                f"{NAME}: expected forward_func to return {expected} for {copies} times the inputs (or "
                f"perturbations_per_eval=1), got {tuple(out.shape)}"
            )


def _repeated(value: Any, times: int) -> Any:
    """A tensor repeated along its first axis; anything else as it is."""
    return value.repeat(times, *[1] * (value.dim() - 1)) if isinstance(value, Tensor) and value.dim() else value

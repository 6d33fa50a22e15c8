"""FeatureAblation with Captum's arguments and numbers, on windows wherever one mask of an image's regions is hidden."""

from __future__ import annotations

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
from zfkernels.checks import recording_for
from zfkernels.network import Recording, Ref, Sized, UnrecordableError, refuse_training, without_autocast
from zfkernels.occlusion.cost import rates_of
from zfkernels.occlusion.cover import Cover
from zfkernels.occlusion.engine import WindowSweep
from zfkernels.occlusion.sweeper import examine
from zfkernels.occlusion.where import Where
from zfkernels.progress import progress_bar

NAME = "FeatureAblation"


class FeatureAblation:
    """How much the output falls where a group of features is replaced: a drop-in for ``captum.attr.FeatureAblation``.

    If ``forward_func`` is an nn.Module that can be recorded, ``inputs`` one batch of images [N, C, H, W], the output
    [N, classes] and the mask the same in all channels, each group is a region of the image, and only what it can change
    is computed; the numbers are the same up to rounding. Everything else is run whole, as Captum does it.

    Args:
        forward_func: a module, or any function of the inputs (and of further arguments) that returns a tensor or a
            number.

    Raises:
        TypeError: ``forward_func`` cannot be called.
    """

    def __init__(self, forward_func: Forward) -> None:
        if not callable(forward_func):
            raise TypeError(f"{NAME}: expected forward_func a function, got {type(forward_func).__name__}")
        self.forward_func = forward_func

    @torch.no_grad()
    @without_autocast()
    def attribute(
        self,
        inputs: Inputs,
        baselines: float | Tensor | tuple[float | Tensor, ...] | None = None,
        target: Any = None,
        additional_forward_args: Any = None,
        feature_mask: Tensor | tuple[Tensor, ...] | None = None,
        perturbations_per_eval: int = 1,
        show_progress: bool = False,
    ) -> Any:
        """Attributions of every cell of every input: clean minus output without the cell's group.

        Args:
            inputs: a tensor [N, ...] or a tuple of them.
            baselines: what stands in place of a group, in the inputs' units: a number or a tensor that broadcasts to
                the input; for a tuple of inputs a tuple of these. None: 0.
            target: as of :meth:`zfkernels.Occlusion.attribute`.
            additional_forward_args: one further argument of ``forward_func`` or a tuple of them.
            feature_mask: int tensors that broadcast to one example of each input, [1, ...]: cells of one number, in all
                inputs, are replaced together. None: each cell by itself.
            perturbations_per_eval: at most this many changed copies of the inputs are held at once, or values on
                windows that take no more room.
            show_progress: show a progress bar.

        Returns:
            For each input a tensor of its shape and the output's dtype; if ``target`` names k outputs in all, and not
            one for each example, [k, ...].

        Raises:
            AssertionError: what Captum refuses by assertion; also a ValueError, or a TypeError for a wrong type.
            ValueError: a mask or baseline that does not broadcast, a module in training mode.
        """
        tensors, arguments = as_tensors(NAME, inputs), as_arguments(additional_forward_args)
        if not isinstance(perturbations_per_eval, int) or perturbations_per_eval < 1:
            raise RefusedValue(
                f"{NAME}: expected perturbations_per_eval an int of at least 1, got {perturbations_per_eval!r}"
            )
        masks = _masks(tensors, feature_mask)
        shown = _shown(tensors, baselines)
        features = torch.cat([mask.unique() for mask in masks]).unique()
        clean = _as_tensor(self.forward_func(*tensors, *arguments))
        wanted = select(NAME, torch.arange(clean.numel(), device=clean.device).view(clean.shape), target).flatten()
        recording = self._recording(tensors, arguments, masks)
        with progress_bar(len(features), "features", show_progress) as advance:
            if recording is not None:
                effects = _swept(recording, tensors[0], masks[0], shown[0], clean, wanted, perturbations_per_eval)
                advance(len(features))
            else:
                effects = self._whole(
                    tensors, arguments, masks, shown, features, clean, wanted, perturbations_per_eval, advance
                )
        found = []
        for tensor, mask in zip(tensors, masks, strict=True):
            total = effects.new_zeros((len(wanted), *tensor.shape[1:]))
            for feature, effect in zip(features.tolist(), effects.T, strict=True):
                total += effect.view(-1, *[1] * (tensor.dim() - 1)) * (mask == feature)
            found.append(total)
        return as_inputs(inputs, tuple(found))

    def _recording(
        self, tensors: tuple[Tensor, ...], arguments: tuple[Any, ...], masks: list[Tensor]
    ) -> Recording | None:
        """The recording of a module of one batch of images that returns [N, classes]; None for what runs whole."""
        images, forward = tensors[0], self.forward_func
        if not isinstance(forward, nn.Module):
            return None
        refuse_training(forward)
        regions = len(tensors) == 1 and not arguments and images.dim() == 4 and images.is_floating_point()
        if not regions or bool((masks[0] != masks[0][:, :1]).any()) or not len(images):
            return None
        if not images.isfinite().all():  # a ReLU inside a product may lose a NaN
            return None
        try:
            recording = recording_for(NAME, forward, images)
        except UnrecordableError:
            return None
        output = recording.outputs
        shape = recording.by_name[output.name].shape if isinstance(output, Ref) else ()
        if len(shape) != 2 or shape[0] != Sized(1, 0):
            return None
        middle = torch.tensor([images.shape[2] // 2, images.shape[3] // 2, 1, 1])
        verdict = examine(recording, images, middle, Cover(images.new_zeros(images.shape[1])))
        return None if verdict.differs or verdict.mixes else recording

    def _whole(
        self,
        tensors: tuple[Tensor, ...],
        arguments: tuple[Any, ...],
        masks: list[Tensor],
        shown: list[Tensor],
        features: Tensor,
        clean: Tensor,
        wanted: Tensor,
        at_once: int,
        advance: Any,
    ) -> Tensor:
        """Clean minus output, [k, F], on whole inputs."""
        if at_once > 1 and (clean.dim() == 0 or len(clean) != len(tensors[0])):
            raise RefusedValue(
                f"{NAME}: expected perturbations_per_eval=1 for an output that is not one row for each example, "
                f"got {at_once}"
            )
        effects = []
        for part in features.split(at_once):
            changed = [
                torch.where((mask == part.view(-1, *[1] * mask.dim())).expand(-1, len(tensor), *mask.shape[1:]),
                            base, tensor).flatten(0, 1)
                for tensor, mask, base in zip(tensors, masks, shown, strict=True)
            ]  # fmt: skip
            more = [_repeated(argument, len(part)) for argument in arguments]
            out = _as_tensor(self.forward_func(*changed, *more)).reshape(len(part), -1)
            if out.shape[1] != clean.numel():
                raise RefusedValue(
                    f"{NAME}: expected forward_func to return {tuple(clean.shape)} for each copy of the inputs (or "
                    f"perturbations_per_eval=1), got {tuple(out.shape)}"
                )
            effects.append(clean.flatten()[wanted] - out[:, wanted])
            advance(len(part))
        return torch.cat(effects).T


def _swept(
    recording: Recording, images: Tensor, mask: Tensor, shown: Tensor, clean: Tensor, wanted: Tensor, at_once: int
) -> Tensor:
    """Clean minus output, [k, F], on windows."""
    changes = Where(regions=mask[0, 0]).at((images.shape[2], images.shape[3]))
    sweep = WindowSweep(recording, changes.boxes)
    plan, budget = sweep.plan(images.device, images.dtype), rates_of(images.device.type).budget
    room = max(plan.least_bytes, min(at_once * len(images) * plan.whole_bytes, budget))
    fill = shown.expand(torch.broadcast_shapes(shown.shape, images.shape)).contiguous()
    image, classes = wanted // clean.shape[1], wanted % clean.shape[1]
    targets, column = classes.unique(return_inverse=True)
    cover = Cover(fill, labels=changes.labels, label=changes.label)
    swept = sweep(images, cover, targets=targets, memory=room)
    return swept.clean[image, classes, None] - swept.outputs[image, :, column]


def _masks(tensors: tuple[Tensor, ...], given: Any) -> list[Tensor]:
    """For each input the group of every cell, int64 [1, ...]."""
    if given is None:
        masks, first = [], 0
        for tensor in tensors:
            count = tensor[0].numel() if len(tensor) else 0
            masks.append(torch.arange(first, first + count, device=tensor.device).view(1, *tensor.shape[1:]))
            first += count
        return masks
    masks = list(given) if isinstance(given, tuple) else [given]
    if len(masks) != len(tensors):
        raise RefusedValue(f"{NAME}: expected feature_mask one for each input, got {len(masks)} for {len(tensors)}")
    for tensor, mask in zip(tensors, masks, strict=True):
        if not isinstance(mask, Tensor) or mask.is_floating_point():
            got = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
            raise RefusedType(f"{NAME}: expected feature_mask int tensors, got {got}")
        shape = (1, *tensor.shape[1:])
        behind = zip(reversed(mask.shape), reversed(shape), strict=False)
        if mask.dim() > len(shape) or any(side not in (1, full) for side, full in behind):
            raise ValueError(f"{NAME}: expected feature_mask that broadcasts to {shape}, got {tuple(mask.shape)}")
    return [
        mask.to(tensor.device, torch.int64).expand(1, *tensor.shape[1:])
        for tensor, mask in zip(tensors, masks, strict=True)
    ]


def _shown(tensors: tuple[Tensor, ...], baselines: Any) -> list[Tensor]:
    """What stands in place of each input: tensors that broadcast to it."""
    given = (0,) * len(tensors) if baselines is None else baselines if isinstance(baselines, tuple) else (baselines,)
    if len(given) != len(tensors):
        raise RefusedValue(f"{NAME}: expected baselines one for each input, got {len(given)} for {len(tensors)}")
    shown = []
    for tensor, baseline in zip(tensors, given, strict=True):
        if not isinstance(baseline, (Tensor, int, float)):
            raise RefusedType(f"{NAME}: expected baselines numbers or tensors, got {type(baseline).__name__}")
        kept = tensor.dtype if tensor.is_floating_point() else None
        baseline = torch.as_tensor(baseline, dtype=kept, device=tensor.device).detach()
        behind = zip(reversed(baseline.shape), reversed(tensor.shape), strict=False)
        if baseline.dim() > tensor.dim() or any(side not in (1, full) for side, full in behind):
            raise ValueError(
                f"{NAME}: expected baselines that broadcast to {tuple(tensor.shape)}, got {tuple(baseline.shape)}"
            )
        shown.append(baseline)
    return shown


def _as_tensor(output: Any) -> Tensor:
    if isinstance(output, (Tensor, int, float)):
        return torch.as_tensor(output, dtype=torch.float64 if isinstance(output, float) else None)
    raise RefusedType(f"{NAME}: expected forward_func to return a tensor or a number, got {type(output).__name__}")


def _repeated(value: Any, times: int) -> Any:
    return value.repeat(times, *[1] * (value.dim() - 1)) if isinstance(value, Tensor) and value.dim() else value

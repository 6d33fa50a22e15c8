"""Whether a recording is what the model computes, found out on real images.

A recording stands for the model as long as its numbers are the model's, up to rounding, for an image alone and beside
another one that differs from it. A model whose result for an image depends on the others in its batch is found here
too.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from zfkernels.network.contexts import users_context, without_autocast
from zfkernels.network.record import record
from zfkernels.network.recording import INPUT, Recording, Ref, Sized
from zfkernels.network.stand_in import stand_in, unwrapped
from zfkernels.network.tree import leaves

MARGIN = 8.0  # how many times the expected rounding error may be found


@dataclass(frozen=True)
class Verdict:
    """What a check on real images found.

    Attributes:
        differs: how the recording differs from the model, "" if it does not.
        mixes: how the images of a batch depend on each other, "" if they do not.
    """

    differs: str = ""
    mixes: str = ""


@torch.no_grad()
def check(recording: Recording, image: Tensor, other: Tensor) -> Verdict:
    """Runs model and recording on an image alone and beside a very different one; the verdict is kept.

    Args:
        recording: of the model for images of this size and dtype.
        image: [1, C, H, W], what stands beside is made of it.
        other: [1, C, H, W], the image that is looked at.
    """
    if "verdict" not in recording.memo:
        recording.memo["verdict"] = _check(recording, _very_different(image), other)
    return recording.memo["verdict"]


def _check(recording: Recording, image: Tensor, other: Tensor) -> Verdict:
    if image.dtype in (torch.float16, torch.bfloat16):  # whose rounding would hide differences
        image, other = image.float(), other.float()
        recording = record(copy.deepcopy(recording.model).float(), image)
    pair = torch.cat([image, other])
    budget = rounding(recording, image.dtype)
    together, alone = run_model(recording.model, pair), run_model(recording.model, other)
    names = recording.output_names
    for images, expected in ((pair, together), (other, alone)):
        found = recording.rebuild(recording.run(images.clone(), names))
        if not _agree(tensors_of(found), tensors_of(expected), budget):
            return Verdict(differs="what it computes for these images is not what was recorded")
    if not all(recording.by_name[name].shape[:1] == (Sized(1, 0),) for name in names):
        return Verdict(mixes="its output has no row of its own for each image")
    moving = [leaf for leaf, ref in zip(leaves(together), leaves(recording.outputs), strict=True) if _is_ref(ref)]
    single = [leaf for leaf, ref in zip(leaves(alone), leaves(recording.outputs), strict=True) if _is_ref(ref)]
    if not _agree([leaf[1:] for leaf in moving], single, budget):
        return Verdict(mixes="its output for an image depends on the other images of the batch")
    return Verdict()


@torch.no_grad()
def batch_matters(model: nn.Module, image: Tensor, other: Tensor) -> bool:
    """Whether a model's output for an image [1, C, H, W] depends on another one beside it.

    Rounding counts as much as it may in sums as long as the model has parameters.
    """
    together = tensors_of(run_model(model, torch.cat([_very_different(image), other])))
    alone = tensors_of(run_model(model, other))
    if not all(leaf.dim() and len(leaf) == 2 for leaf in together):
        return True
    length = sum(parameter.numel() for parameter in model.parameters())
    return not _agree([leaf[1:] for leaf in together], alone, _budget(length, image.dtype))


def _very_different(image: Tensor) -> Tensor:
    """An image whose mean, spread and extremes are others: what a batch shares must show."""
    return image.flip((2, 3)) * 2 + 1


def run_model(model: nn.Module, images: Tensor) -> Any:
    """The model's output for ``images``, which it may write to; what its ``forward`` sets is not set on the model."""
    twin, _ = stand_in(unwrapped(model)[0])
    with without_autocast(), users_context():
        return twin(images.clone())


def rounding(recording: Recording, dtype: torch.dtype) -> float:
    """The largest difference, relative to the largest value, that other orders of summation may make.

    The rounding errors of a sum of L products add up like a random walk, to about ``eps * sqrt(L)`` of its size; those
    of layers behind each other likewise.
    """
    length = sum(_summands(step.args) for step in recording.steps if step.name != INPUT)
    return _budget(length, dtype)


def _budget(length: int, dtype: torch.dtype) -> float:
    return MARGIN * torch.finfo(dtype).eps * math.sqrt(max(1, length))


def _summands(args: tuple[Any, ...]) -> int:
    """How many products each result of an operation adds up: the size of a filter or of a row of weights."""
    weights = [x for x in args if isinstance(x, Tensor) and x.dim() > 1]
    return sum(weight[0].numel() for weight in weights[:1]) or 1


def tensors_of(value: Any) -> list[Tensor]:
    """The tensors of an output, in order."""
    return [leaf for leaf in leaves(value) if isinstance(leaf, Tensor)]


def _agree(found: list[Tensor], expected: list[Tensor], budget: float) -> bool:
    return len(found) == len(expected) and all(map(_alike, found, expected, [budget] * len(found)))


def _alike(found: Tensor, expected: Tensor, budget: float) -> bool:
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return False
    if not found.is_floating_point() or not found.numel():
        return torch.equal(found, expected)
    finite = expected.isfinite()
    same = torch.equal(found[~finite].nan_to_num(), expected[~finite].nan_to_num())
    scale = expected[finite].abs().amax() if finite.any() else expected.new_zeros(())
    return same and bool((found[finite] - expected[finite]).abs().amax() <= budget * scale if finite.any() else True)


def _is_ref(leaf: Any) -> bool:
    return isinstance(leaf, Ref)

"""Checks of arguments that the functions of the package share."""

from __future__ import annotations

import math
import numbers
from typing import Any

import torch
from torch import Tensor, nn

from zfkernels.network import Recording, UnrecordableError, Verdict, check, first_channels, record, refuse_training
from zfkernels.network.network import Network
from zfkernels.results.look import UNKNOWN, Look
from zfkernels.signed import warn_user


def as_int(value: Any) -> Any:
    """A whole number of another library, such as NumPy's, as an int; in tuples and lists too; all else as it is."""
    if type(value) in (tuple, list):
        return type(value)(map(as_int, value))
    return int(value) if isinstance(value, numbers.Integral) and not isinstance(value, (bool, int)) else value


def is_int_tensor(value: Any) -> bool:
    """A tensor of whole numbers."""
    return isinstance(value, Tensor) and not (
        value.is_floating_point() or value.is_complex() or value.dtype == torch.bool
    )


def check_images(method: str, images: Any, model: nn.Module | None) -> None:
    """Images [N, C, H, W] of the model's dtype and device (``model`` None: any).

    Raises:
        TypeError: wrong type or dtype.
        ValueError: wrong shape or device.
    """
    parameter = None if model is None else next(model.parameters(), None)
    if not isinstance(images, Tensor) or not images.is_floating_point():
        got = images.dtype if isinstance(images, Tensor) else type(images).__name__
        raise TypeError(f"{method}: expected images a floating-point tensor [N, C, H, W], got {got}{_remedy(images)}")
    if images.dim() != 4:
        remedy = "; images[None] makes a batch of one image" if images.dim() == 3 else ""
        raise ValueError(f"{method}: expected images of shape [N, C, H, W], got {tuple(images.shape)}{remedy}")
    if parameter is not None and images.dtype != parameter.dtype:
        remedy = f"images.to({parameter.dtype}) makes them"
        raise TypeError(
            f"{method}: expected images of the model's dtype {parameter.dtype}, got {images.dtype}; {remedy}"
        )
    if parameter is not None and images.device != parameter.device:
        remedy = f"images.to({str(parameter.device)!r}) brings them there"
        raise ValueError(
            f"{method}: expected images on the model's device {parameter.device}, got {images.device}; {remedy}"
        )
    if images.device.type == "cpu" and images.dtype == torch.float16:
        raise TypeError(f"{method}: expected images of float32, float64 or bfloat16 on a CPU, got {images.dtype}")
    _warn_of_bytes(method, images, model)


def recording_for(method: str, model: nn.Module, images: Any) -> Recording:
    """The recording of a model for checked images.

    Raises:
        TypeError, ValueError: as :func:`check_images`, and for images of a number of channels that the model does not
            take, or a model in training mode.
        UnrecordableError: see :func:`zfkernels.network.record`.
    """
    if isinstance(model, nn.Module):
        refuse_training(model)
    check_images(method, images, model)
    try:
        return record(model, images)
    except UnrecordableError:
        channels = first_channels(model)
        if images.shape[1] != channels:
            raise ValueError(f"{method}: expected images of {channels} channels, got {images.shape[1]}") from None
        raise


def network_for(method: str, model: nn.Module, images: Any) -> Network:
    """The same with its layers and kinds of steps."""
    return Network(recording_for(method, model, images))


def refuse_difference(method: str, recording: Recording, images: Tensor) -> Verdict:
    """Raises ValueError where the recording of a model is not what the model computes for the first of ``images``."""
    verdict = Verdict()
    if len(images) and images[:1].isfinite().all():
        verdict = check(recording, images[:1], images[:1].flip(3))
        if verdict.differs:
            raise ValueError(f"{method}: expected model that can be recorded, got one of which {verdict.differs}")
    return verdict


def check_number(function: str, name: str, value: Any) -> None:
    """``TypeError`` for what is no finite number."""
    if not isinstance(value, numbers.Real) or isinstance(value, bool) or not math.isfinite(value):
        raise TypeError(f"{function}: expected {name} a finite number, got {value!r}")


def check_batch_size(function: str, batch_size: Any) -> None:
    """``ValueError`` for what is no int of 1 or more."""
    if not isinstance(batch_size, int) or isinstance(batch_size, bool) or batch_size < 1:
        raise ValueError(f"{function}: expected batch_size ≥ 1, got {batch_size!r}")


def _remedy(images: Any) -> str:
    """How people come from what they have to what a network takes; "" where nobody knows."""
    made = "preprocess(picture)[None] makes them, preprocess = zfkernels.models.get_preprocess(name)"
    if isinstance(images, Tensor) and images.dtype == torch.uint8:
        return f", pixels that are not normalised yet; {made}"
    if hasattr(images, "convert") and hasattr(images, "size"):  # a PIL picture
        return f", a picture; {made}"
    if type(images).__module__ == "numpy":
        return f"; torch.from_numpy makes a tensor, normalised and [N, C, H, W] as the network takes it; or {made}"
    if isinstance(images, (list, tuple)) and images and all(isinstance(image, Tensor) for image in images):
        return "; torch.stack(images) makes one tensor of images of one size"
    return f"; {made}" if isinstance(images, (list, tuple)) else ""


def _warn_of_bytes(method: str, images: Tensor, model: nn.Module | None) -> None:
    """Warns of pixels from 0 to 255 given to a network that says that it takes normalised ones."""
    look = UNKNOWN if model is None else Look.of(model)
    if look.mean is None or look.std is None or not images.numel():
        return
    black = min(-mean / std for mean, std in zip(look.mean, look.std, strict=True))
    white = max((1 - mean) / std for mean, std in zip(look.mean, look.std, strict=True))
    if float(images.amin()) >= 0 and float(images.amax()) > 4 * white:
        warn_user(
            method,
            f"images look like pixels from 0 to 255, but black to white is {black:.3g} to {white:.3g} for "
            f"this network; zfkernels.models.get_preprocess(name) normalises pictures",
        )

"""Checks of arguments that the methods share."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from zfkernels.network import Verdict, check, refuse_training
from zfkernels.trace import Trace, UnrecordableError, first_channels, trace_model


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
        raise TypeError(f"{method}: expected images a floating-point tensor [N, C, H, W], got {got}")
    if images.dim() != 4:
        raise ValueError(f"{method}: expected images of shape [N, C, H, W], got {tuple(images.shape)}")
    if parameter is not None and images.dtype != parameter.dtype:
        raise TypeError(f"{method}: expected images of the model's dtype {parameter.dtype}, got {images.dtype}")
    if parameter is not None and images.device != parameter.device:
        raise ValueError(f"{method}: expected images on the model's device {parameter.device}, got {images.device}")
    if images.device.type == "cpu" and images.dtype == torch.float16:
        raise TypeError(f"{method}: expected images of float32, float64 or bfloat16 on a CPU, got {images.dtype}")


def trace_for(method: str, model: nn.Module, images: Any) -> Trace:
    """The trace of a model for checked images.

    Raises:
        TypeError, ValueError: as :func:`check_images`, and for images of a number of channels that the model does not
            take, or a model in training mode.
        UnrecordableError: see :func:`zfkernels.trace.trace_model`.
    """
    if isinstance(model, nn.Module):
        refuse_training(model)
    check_images(method, images, model)
    try:
        return trace_model(model, images)
    except UnrecordableError:
        channels = first_channels(model)
        if images.shape[1] != channels:
            raise ValueError(f"{method}: expected images of {channels} channels, got {images.shape[1]}") from None
        raise


def refuse_difference(method: str, trace: Trace, images: Tensor) -> Verdict:
    """Raises ValueError where the recording of a model is not what the model computes for the first of ``images``."""
    verdict = Verdict()
    if len(images) and images[:1].isfinite().all():
        verdict = check(trace.recording, images[:1], images[:1].flip(3))
        if verdict.differs:
            raise ValueError(f"{method}: expected model that can be recorded, got one of which {verdict.differs}")
    return verdict

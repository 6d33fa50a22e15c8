"""Checks of arguments that the methods share."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from zfkernels.trace import Trace


def is_int_tensor(value: Any) -> bool:
    """A tensor of whole numbers."""
    return isinstance(value, Tensor) and not (
        value.is_floating_point() or value.is_complex() or value.dtype == torch.bool
    )


def check_images(method: str, images: Any, trace: Trace | None) -> None:
    """Images [N, C, H, W] of the model's dtype, device and number of channels (``trace`` None: any model).

    Raises:
        TypeError: wrong type or dtype.
        ValueError: wrong shape or device.
    """
    parameter = None if trace is None else next(trace.model.parameters(), None)
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
    first = None if trace is None else next((step for step in trace.steps if step.kind == "conv"), None)
    if trace is not None and first is not None and first.inputs == (trace.input.name,):
        channels = first.params.weight.shape[1] * first.params.groups
        if images.shape[1] != channels:
            raise ValueError(f"{method}: expected images of {channels} channels, got {images.shape[1]}")

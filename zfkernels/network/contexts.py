"""The state of a thread that computations must not depend on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

import torch

_users_device: ContextVar[torch.device | None] = ContextVar("zfkernels_users_device", default=None)


@contextlib.contextmanager
def without_autocast() -> Iterator[None]:
    """Switches autocast off, on the CPU and on GPUs; also a decorator. Results have the model's own dtype."""
    with contextlib.ExitStack() as stack:
        for kind in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
            stack.enter_context(torch.autocast(kind, enabled=False))
        yield


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """A caller's settings left behind: autocast, inference mode, a default device; also a decorator.

    Without a default device, tensors that are made with none are on the CPU, as the package's own are meant to be.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(without_autocast())
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
            stack.enter_context(torch.no_grad())
        device = torch.get_default_device()
        if device.type != "cpu":
            stack.callback(_users_device.reset, _users_device.set(device))
            stack.enter_context(torch.device("cpu"))
        yield


@contextlib.contextmanager
def users_context() -> Iterator[None]:
    """Inside :func:`undisturbed`: the caller's default device again, for code of the caller's own such as a model."""
    device = _users_device.get()
    if device is None:
        yield
        return
    with device:
        yield

"""Calls that repeat: captured in a CUDA graph once, then replayed, one launch by the host in place of hundreds.

A graph holds addresses, not numbers: arguments are copied to where they were when it was captured, and everything else
that a function reads (weights, tables) is read as it is by then. On other devices than GPUs, the function just runs.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor

from zfkernels.network.tree import leaves, map_leaves
from zfkernels.ops import requested_backend

DEVICES = ("cuda",)
_wanted: ContextVar[bool] = ContextVar("zfkernels_graphs", default=True)


@contextlib.contextmanager
def without_graphs() -> Iterator[None]:
    """Inside, nothing is captured in a CUDA graph or replayed: for comparing times, and for profilers."""
    token = _wanted.set(False)
    try:
        yield
    finally:
        _wanted.reset(token)


class Replayed:
    """A function whose second call with arguments of one form, and all later ones, are replays of a graph.

    The first call runs the function: kernels are compiled, libraries choose their algorithms, tables are made. The
    second captures it first. Where the form changes (shapes, dtypes, strides, devices, numbers that are no tensors, the
    precision of products, the backend), it begins anew. What a capture refuses is said once, and the function runs.

    Args:
        name: of the caller, for that sentence.
        function: of tensors in any containers, to the same, with the keyword ``again``: whether it ran before with
            arguments of this form, so that it need check nothing. Then it waits for no GPU, copies nothing to it, and
            reads no number of a tensor.
        pool: memory that graphs share which never run at the same time; see :func:`new_pool`.
    """

    def __init__(self, name: str, function: Callable[..., Any], pool: Any = None) -> None:
        self.name, self.function, self.pool = name, function, pool
        self.form: Any = None
        self.held: Any = None  # the arguments as the graph reads them
        self.outputs: Any = None
        self.graph: Any = None
        self.refused = False

    def __call__(self, *arguments: Any) -> Any:
        """What the function returns; tensors are copies of the caller's own."""
        device = _device(arguments)
        if self.refused or device is None or not capturable(device):
            return self.function(*arguments, again=False)
        form = _form(arguments)
        if self.form != form:
            self.form, self.graph, self.outputs = form, None, None
            self.held = map_leaves(_copied, arguments)
            return map_leaves(_copied, self.function(*self.held, again=False))
        for held, given in zip(leaves(self.held), leaves(arguments), strict=True):
            if isinstance(given, Tensor):
                held.copy_(given)
        if self.graph is None:
            problem = self._capture(device)
            if problem is not None:
                self.refused, self.form, self.held = True, None, None
                warnings.warn(f"{self.name}: runs without a CUDA graph: {problem}", RuntimeWarning, stacklevel=2)
                return self.function(*arguments, again=False)
        self.graph.replay()
        return map_leaves(_copied, self.outputs)

    def _capture(self, device: torch.device) -> str | None:
        """Captures a call; why it cannot be, or None."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(device):
            stream = torch.cuda.current_stream()
            try:
                # Other threads may allocate meanwhile: those that load the next images do.
                with torch.cuda.graph(graph, pool=self.pool, capture_error_mode="thread_local"):
                    self.outputs = self.function(*self.held, again=True)
            except RuntimeError as error:
                self.outputs = None
                return (str(error).strip().splitlines() or [type(error).__name__])[0]
            finally:
                torch.cuda.set_stream(stream)  # a capture that failed leaves its own behind
        self.graph = graph
        return None


def new_pool() -> Any:
    """Memory for the graphs of one caller."""
    return torch.cuda.graph_pool_handle()


def capturable(device: torch.device) -> bool:
    """Whether calls on a device are captured now: on a GPU, unless the caller captures already, or wishes none."""
    return _wanted.get() and device.type in DEVICES and not torch.cuda.is_current_stream_capturing()


def _device(arguments: Any) -> torch.device | None:
    return next((leaf.device for leaf in leaves(arguments) if isinstance(leaf, Tensor)), None)


def _copied(leaf: Any) -> Any:
    return leaf.clone() if isinstance(leaf, Tensor) else leaf


def _form(arguments: Any) -> tuple[Any, ...]:
    """What a graph is for."""
    backends: Any = torch.backends
    settings = (
        backends.cudnn.conv.fp32_precision, backends.cuda.matmul.fp32_precision, backends.cudnn.enabled,
        backends.cudnn.deterministic, torch.are_deterministic_algorithms_enabled(), requested_backend(),
    )  # fmt: skip
    tensors = (
        (leaf.shape, leaf.stride(), leaf.dtype, leaf.device) if isinstance(leaf, Tensor) else leaf
        for leaf in leaves(arguments)
    )
    return (settings, *tensors)

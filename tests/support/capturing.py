"""What a capture in a CUDA graph refuses, and a graph of a CPU's operations in its place, run again at each replay."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, unset_fake_temporarily
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from zfkernels import replay
from zfkernels.network.kinds import Kind
from zfkernels.network.tree import map_leaves
from zfkernels.ops import _registry

aten = torch.ops.aten
WAITS = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}
PINS = {aten._pin_memory, aten.pin_memory}  # the allocator of pinned memory looks at events
POOL = (0, 7)
CUDA = torch.device("cuda")


def waits(function: Any, args: Any, kwargs: Any) -> bool:
    """Whether the host has to know a number of a result: how many there are of a mask, but not of places."""
    if function is aten.repeat_interleave.Tensor:
        return (kwargs or {}).get("output_size") is None
    if function is aten.index.Tensor:
        return any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1])
    return bool(WAITS & set(function.tags))


def on_cuda(leaf: Any) -> Any:
    """Inside a fake mode, a CUDA tensor like ``leaf``; other things as they are."""
    if not isinstance(leaf, Tensor) or leaf.dim() == 0:  # a constant number lies on the host
        return leaf
    return torch.empty_strided(leaf.shape, leaf.stride(), dtype=leaf.dtype, device=CUDA)


def route_to_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on fake CUDA tensors go where real ones do: to the variant that is asked for, not to a fake kernel."""
    monkeypatch.setattr(_registry, "only_a_kernel_runs", lambda args: True)
    monkeypatch.setattr(_registry.Op, "why_not", lambda self, backend, args=None: None)


def move_constants(kind: Kind) -> None:
    """Inside a fake mode: the constants of a step become those of a network on a GPU."""
    for name, value in list(vars(kind).items()):
        if name != "affine" and isinstance(value, (Tensor, dict)):  # an affine's copies on the device are made once
            vars(kind)[name] = map_leaves(on_cuda, value)
    for step in (kind.step, *kind.steps, *kind.sources):
        for name in ("args", "kwargs"):
            object.__setattr__(step, name, map_leaves(on_cuda, getattr(step, name)))


class Waits(RuntimeError):
    """As the driver puts it: operation not permitted when stream is capturing."""


class OnDevice(TorchDispatchMode):
    """Refuses what synchronises: operations whose result the host has to know, and tensors that leave the GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert not waits(function, args, kwargs), f"{function} waits for the GPU"
        result = function(*args, **(kwargs or {}))
        for tensor in tensors((args, kwargs, result)):
            assert tensor.device.type == "cuda", f"{function} takes a tensor from or to the {tensor.device.type}"
        self.operations.append(str(function))
        return result


class HostAndDevice(OnDevice):
    """Inside a fake mode: what lies on the host is real, and nothing goes from there to the GPU, or back.

    Refuses what :class:`OnDevice` refuses, of each operation that takes or makes a tensor on the GPU; with
    ``first=True`` nothing: then what stays on the GPU is made.
    """

    def __init__(self, *, first: bool = False) -> None:
        super().__init__()
        self.first = first

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        on_gpu = torch.device((kwargs or {}).get("device") or "cpu").type == "cuda"
        if on_gpu or any(isinstance(tensor, FakeTensor) for tensor in tensors((args, kwargs))):
            if self.first:
                return function(*args, **(kwargs or {}))
            return super().__torch_dispatch__(function, types, args, kwargs)
        with unset_fake_temporarily():
            return function(*args, **(kwargs or {}))


class Graph:
    """Stands in for ``torch.cuda.CUDAGraph``: what was called, with the tensors that it was called with."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, Any, Any, Any]] = []
        self.pool: Any = None
        self.replays = 0

    def replay(self) -> None:
        """Every operation again, on the same memory, into the same memory."""
        self.replays += 1
        for function, args, kwargs, result in self.calls:
            for before, now in zip(tensors(result), tensors(function(*args, **kwargs)), strict=True):
                if before.data_ptr() != now.data_ptr():
                    before.copy_(now)


class Capture(TorchDispatchMode):
    """Stands in for ``torch.cuda.graph``: a mode that writes down what is called, and refuses what a capture refuses.

    Unlike a GPU's, it runs the operations as well.
    """

    def __init__(self, graph: Graph, pool: Any = None, capture_error_mode: str = "global") -> None:
        super().__init__()
        assert capture_error_mode == "thread_local"
        self.graph, graph.pool = graph, pool

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if waits(function, args, kwargs) or function.overloadpacket in PINS:
            raise Waits(f"{function}: operation not permitted when stream is capturing")
        result = function(*args, **(kwargs or {}))
        self.graph.calls.append((function, args, kwargs or {}, result))
        return result


def tensors(tree: Any) -> Iterator[Tensor]:
    return (leaf for leaf in pytree.tree_leaves(tree) if isinstance(leaf, Tensor))


class Nothing:
    """Stands in for what selects a GPU."""

    def __init__(self, *args: Any) -> None:
        pass

    def __enter__(self) -> None:
        pass

    def __exit__(self, *args: object) -> None:
        pass


def stand_in(monkeypatch: pytest.MonkeyPatch) -> list[Graph]:
    """From now on calls on the CPU are captured; the list that is returned has all graphs."""
    made: list[Graph] = []

    def graph() -> Graph:
        made.append(Graph())
        return made[-1]

    monkeypatch.setattr(replay, "DEVICES", ("cpu",))
    parts = {"CUDAGraph": graph, "graph": Capture, "graph_pool_handle": lambda: POOL, "device": Nothing}
    parts |= {"current_stream": lambda: None, "set_stream": lambda stream: None}
    for name, part in (parts | {"is_current_stream_capturing": lambda: False}).items():
        monkeypatch.setattr(torch.cuda, name, part)
    return made

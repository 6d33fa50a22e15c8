"""What a sweep calls: its operations and launches, counted on tensors that have shapes and no numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
    UnsupportedOperatorException,
)
from torch.utils._python_dispatch import TorchDispatchMode

from zfkernels.network.program import run_steps
from zfkernels.network.recording import INPUT
from zfkernels.occlusion.chunks import WindowChunk
from zfkernels.occlusion.cover import Cover
from zfkernels.occlusion.engine import WindowSweep, chunk_sizes


@dataclass(frozen=True)
class Calls:
    """What one sweep over an image calls, the clean pass and the layouts left aside.

    Attributes:
        at_once: positions that travel together.
        chunks: of so many positions.
        operations: that the host calls for a chunk.
        launches: those of them that compute.
        ours: those of them that are the package's own kernels.
    """

    at_once: int
    chunks: int
    operations: int
    launches: int
    ours: int


def count_calls(sweep: WindowSweep, device: torch.device, dtype: torch.dtype, memory: int) -> Calls | None:
    """Runs a chunk of a sweep with a budget of ``memory`` bytes on tensors without numbers.

    Returns:
        None where that cannot be done: a step, of a kind that a user has added, looks at numbers.
    """
    try:
        return _count(sweep, device, dtype, memory)
    except (DataDependentOutputException, DynamicOutputShapeException, UnsupportedOperatorException):
        return None


def _count(sweep: WindowSweep, device: torch.device, dtype: torch.dtype, memory: int) -> Calls:
    plan, places = sweep.planned(device, dtype)
    total, size = len(sweep.boxes), sweep.recording.size
    at_once, batch = chunk_sizes(plan, total, None, max(memory, plan.least_bytes))
    at = places.at(torch.arange(at_once), torch.zeros(at_once, dtype=torch.int64), 1, device)
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        images = torch.empty(1, sweep.recording.channels, *size, dtype=dtype, device=device)
        clean = sweep.clean(images)
        occluder = Cover(images.new_zeros(sweep.recording.channels)).over(
            images, at.layouts[plan.place[INPUT]], at.position, at.corners
        )
        with _Counting() as counting:
            run = WindowChunk(plan, at.layouts, at.image, occluder, clean.frames, sweep.backend)
            run.run()
            for first in range(0, at_once, batch):
                last = min(first + batch, at_once)
                values = {name: run.whole(name, first, last) for name in plan.cut}
                run_steps(plan.tail, values, last - first, sweep.wanted)
    return Calls(at_once, -(-total // at_once), counting.operations, counting.launches, counting.ours)


def computes(func: Any) -> bool:
    """Whether an operation, an OpOverload, launches something: it is neither a view nor new memory."""
    return not func.is_view and func.overloadpacket not in _NO_LAUNCH


class _Counting(TorchDispatchMode):
    """Counts the operations that are called inside, not what they call in turn."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = self.launches = self.ours = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace != "prim":  # questions to a tensor without numbers, which others answer by themselves
            self.operations += 1
            self.launches += computes(func)
            self.ours += func.namespace == "zfkernels"
        return func(*args, **(kwargs or {}))


_ATEN = torch.ops.aten
_NO_LAUNCH = {
    _ATEN.empty, _ATEN.new_empty, _ATEN.empty_like, _ATEN.empty_strided, _ATEN.new_empty_strided, _ATEN._unsafe_view,
    _ATEN.detach, _ATEN.lift_fresh,
}  # fmt: skip

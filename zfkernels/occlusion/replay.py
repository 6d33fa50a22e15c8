"""Work that repeats on a GPU, captured in a CUDA graph once and replayed: one launch from the host for all kernels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree


class Replay:
    """A function of tensors on a GPU, captured once and replayed with other values of the same shapes.

    The graph reads tensors of its own, which each call copies its arguments to, and each call returns copies of what
    the graph has written, so that results of earlier calls stay as they are. The function must have run before, so
    that its kernels are compiled and loaded.

    Args:
        function: takes the tensors and returns tensors in tuples, lists, dictionaries or registered classes. It waits
            for nothing and copies nothing from the host.
        inputs: tensors on the GPU, of the shapes and types of later calls.

    Raises:
        RuntimeError: something in the function cannot be captured, as CUDA puts it.
    """

    def __init__(self, function: Callable[..., Any], inputs: Sequence[Tensor]) -> None:
        self.inputs = [tensor.clone() for tensor in inputs]
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(self.inputs[0].device), torch.cuda.graph(self.graph):
            self.result = function(*self.inputs)

    def __call__(self, *inputs: Tensor) -> Any:
        """The function's result for ``inputs``; nothing is waited for."""
        for kept, given in zip(self.inputs, inputs, strict=True):
            kept.copy_(given)
        self.graph.replay()
        return pytree.tree_map(lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else leaf, self.result)

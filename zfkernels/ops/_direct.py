"""When a call may go to the router itself, past the dispatcher: its walk costs more than pooling a small map."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import reduce
from operator import or_
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

PLAIN_TYPES = frozenset({int, bool, str, tuple, list, torch.Size, type(None)})  # of an op's arguments but tensors


def _keys(*names: str) -> int:
    keys = (torch._C.DispatchKeySet(getattr(torch._C.DispatchKey, name)).raw_repr() for name in names)
    return reduce(or_, keys)


# That every thread includes where nothing was asked for.
_USUAL_KEYS = _keys("BackendSelect", "ADInplaceOrView")
# Of a dense tensor on the CPU or a GPU: no wrapper, no sign that is kept as a bit, no layout of its own.
_PLAIN_KEYS = _keys("CPU", "CUDA", "AutogradCPU", "AutogradCUDA", "AutocastCPU", "AutocastCUDA", "ADInplaceOrView")


def only_a_kernel_runs(args: Sequence[Any]) -> bool:
    """Whether the dispatcher has nothing to do but call the router.

    Not with a gradient or a tangent to find, a mode, transform, trace, profiler or subclass, or a sign kept as a bit.
    """
    if torch.compiler.is_compiling() or torch._C._is_torch_function_mode_enabled() or forward_ad._current_level >= 0:
        return False
    if torch._C._autograd._profiler_enabled():  # it learns from the dispatcher what runs
        return False
    if torch._C._dispatch_tls_local_include_set().raw_repr() & ~_USUAL_KEYS:
        return False
    recording = torch.is_grad_enabled()
    for arg in flat(args):
        kind = type(arg)
        if kind is Tensor or kind is torch.nn.Parameter:
            if torch._C._dispatch_keys(arg).raw_repr() & ~_PLAIN_KEYS or (recording and arg.requires_grad):
                return False
        elif kind not in PLAIN_TYPES:
            return False
    return True


def flat(args: Sequence[Any]) -> Iterator[Any]:
    """The arguments of an op, those in lists of tensors one by one."""
    for arg in args:
        if type(arg) is list:
            yield from arg
        else:
            yield arg

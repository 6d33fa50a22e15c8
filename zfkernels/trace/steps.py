"""The steps of a network, one for each operation, of the kinds that the methods carry windows through.

Kinds:
    input        the images
    conv         convolution (``params``: Conv)
    max_pool     max-pooling (``params``: MaxPool)
    avg_pool     average pooling (``params``: AvgPool)
    relu         a rectifier: ReLU, ReLU6, LeakyReLU, and the other spellings of max(x, 0)
    lrn          local response normalisation (contrast normalisation across maps), called as a module
    batch_norm   batch normalisation with running statistics: a scale and a shift of each map (``params``: BatchNorm)
    identity     the same values: contiguous, clone, reshape to the same shape
    add, cat     addition of two maps (or vectors), concatenation of maps along channels
    mul          product of two maps, one of which may be a gate of one cell (squeeze-excitation)
    shift, scale a constant, the same all over the frame, added to, or multiplied with, each map
    channels     a choice or another order of the channels (``call``: Channels)
    permute      between [N, C, H, W] and [N, H, W, C]
    pointwise    any other function of one cell: other non-linearities, layer norm over channels, linear over channels
    global_pool  mean over the whole frame
    adaptive_pool  adaptive average pooling to a size other than one cell
    flatten      [N, C, H, W] (or [N, H, W, C]) -> [N, all of it]
    linear       a fully-connected layer on vectors (``params``: Linear)
    other        anything else; runs on whole frames only
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from zfkernels.network import Step as Recorded
from zfkernels.windows import Sliding


@dataclass(frozen=True)
class Conv:
    """``weight`` [C_out, C_in / groups, kh, kw], ``bias`` [C_out] or None; ``relu``: a ReLU is fused in."""

    weight: Tensor
    bias: Tensor | None
    sliding: Sliding
    groups: int
    relu: bool = False

    def __call__(self, x: Tensor) -> Tensor:
        s = self.sliding
        out = F.conv2d(x, self.weight, self.bias, s.stride, s.padding, s.dilation, self.groups)
        return out.relu_() if self.relu else out


@dataclass(frozen=True)
class MaxPool:
    sliding: Sliding
    ceil_mode: bool


@dataclass(frozen=True)
class AvgPool:
    sliding: Sliding
    ceil_mode: bool
    count_include_pad: bool
    divisor: int | None


@dataclass(frozen=True)
class BatchNorm:
    """``weight`` and ``bias`` [C], or both None; ``running_mean`` and ``running_var`` [C]."""

    weight: Tensor | None
    bias: Tensor | None
    running_mean: Tensor
    running_var: Tensor
    eps: float


@dataclass(frozen=True)
class LayerNorm:
    """Over the last axis; ``weight`` [C] or None."""

    weight: Tensor | None
    eps: float


@dataclass(frozen=True)
class Linear:
    """``weight`` [units, inputs]."""

    weight: Tensor


@dataclass(frozen=True)
class Gelu:
    approximate: str


@dataclass(frozen=True)
class Replay:
    """Runs recorded operations on the values of ``inputs``, one after the other; the value of the last.

    Attributes:
        steps: the operations.
        inputs: names of what they read, in the order of the arguments.
        counts: (argument, axis, its length for each image), from which the number of images is told; None: not needed.
    """

    steps: tuple[Recorded, ...]
    inputs: tuple[str, ...]
    counts: tuple[int, int, int] | None

    def __call__(self, *values: Any) -> Any:
        batch = 0
        if self.counts is not None:
            place, axis, length = self.counts
            batch = values[place].shape[axis] // length
        known = dict(zip(self.inputs, values, strict=True))
        for step in self.steps:
            known[step.name] = step.run(known, batch)
        return known[self.steps[-1].name]


@dataclass(frozen=True)
class Channels:
    """Some of the channels, in the order of ``index`` int64 [C]."""

    index: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        first, count = int(self.index[0]), len(self.index)
        if torch.equal(self.index, torch.arange(first, first + count)):
            return x[:, first : first + count]
        return x.index_select(1, self.index.to(x.device))


def concatenate(*maps: Tensor) -> Tensor:
    """Along the channels."""
    return torch.cat(maps, 1)


def flatten(x: Tensor) -> Tensor:
    """[N, ...] -> [N, all of it]."""
    return x.flatten(1)


def same(x: Any) -> Any:
    """The value itself."""
    return x


def together(*values: Any) -> tuple[Any, ...]:
    """The values as a tuple."""
    return values


@dataclass(frozen=True)
class Step:
    """One operation of a network.

    Attributes:
        name: unique name (of the recorded operation).
        label: what a person calls it: the path of the module that returns it, with ":k" for the k-th of several calls;
            of steps that no module returns, the name.
        kind: see the module's docstring.
        inputs: names of the steps that it reads.
        params: Conv, MaxPool, AvgPool, BatchNorm, LayerNorm, Linear, Gelu, "plain" (a relu step that is max(x, 0)), or
            None.
        call: runs it on its inputs' tensors, in order; changes none of them.
        scope: the modules that it was called in, outermost first, with ":k" for the k-th of several calls.
        layout: "NCHW", "NHWC" (inside a permuted block) or "" (no maps).
    """

    name: str
    label: str
    kind: str
    inputs: tuple[str, ...]
    params: Any
    call: Callable[..., Any]
    scope: tuple[str, ...]
    layout: str

    @property
    def rectifies(self) -> bool:
        """Whether a relu step is the plain max(x, 0), not ReLU6 or LeakyReLU."""
        return isinstance(self.params, str) and self.params == "plain"

    @property
    def sliding(self) -> Sliding:
        """Geometry of a conv, max_pool or avg_pool step."""
        return self.params.sliding


SLIDING_KINDS = ("conv", "max_pool", "avg_pool")
LOCAL_KINDS = ("relu", "lrn", "batch_norm", "identity", "shift", "scale", "channels", "permute", "pointwise")
# Kinds that spread a change over the whole frame.
FRAME_KINDS = ("global_pool", "adaptive_pool", "flatten", "linear", "other")

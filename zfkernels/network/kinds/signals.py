"""The way down: what a step sees of a DeconvNet's signals, and what the kinds send them down with.

A signal is what comes down to a step's value from above: windows where the value holds maps, a tensor [R, ...] of the R
units that reach the step elsewhere. The truth is back-propagation in which a few steps have a rule of their own.

Source: Zeiler & Fergus 2013 (arXiv 1311.2901), section 2.1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from zfkernels.geometry import Pair
from zfkernels.network.maps import Maps
from zfkernels.network.tree import map_leaves
from zfkernels.ops import unpool_relu_conv_transpose2d
from zfkernels.windows import Layout, Windows

Rule = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Rules:
    """Which steps have a rule of their own; without it they pass the signal times their derivative.

    Attributes:
        soft_rectifiers: ReLU6 and LeakyReLU pass max(signal, 0), as ReLU does.
        contrast_normalization: LocalResponseNorm passes everything.
    """

    soft_rectifiers: bool = True
    contrast_normalization: bool = True


@dataclass(frozen=True)
class Pooled:
    """A signal at a max-pooling's value that is to be unpooled by what reads it: ``windows`` and the pooling."""

    windows: Windows
    switches: Tensor  # uint8 [N, C, Hp, Wp]
    kernel: Pair
    stride: Pair
    padding: Pair
    dilation: Pair
    unpooled: Pair  # the frame of the pooling's input

    @property
    def pooling(self) -> dict[str, Any]:
        """The arguments of ``unpool_relu_conv_transpose2d``."""
        return {
            "pool_kernel_size": self.kernel, "pool_stride": self.stride, "pool_padding": self.padding,
            "pool_dilation": self.dilation, "unpooled_size": self.unpooled,
        }  # fmt: skip


Signal = Windows | Pooled | Tensor


class Descent(Protocol):
    """What a step can ask for on the way down: K units travel together, some of which enter further down.

    A step hands on signals of the units that reach it; that others reach its inputs too is not its concern.
    """

    rules: Rules
    overlap: str  # of pooling windows: "sum" or "last"
    backend: str | None

    def layout(self, name: str) -> Layout:
        """Where the cells of the signal's windows at step ``name`` lie: K windows, empty ones of units not there."""

    def whole(self, name: str, reaching: str) -> Layout:
        """Whole frames of step ``name`` for each unit that reaches step ``reaching``, empty windows for the others."""

    def image(self, name: str) -> Tensor:
        """int64 [R]: the image of each unit that reaches step ``name``."""

    def rows(self, name: str) -> Tensor:
        """int64 [K]: which of the R units that reach step ``name`` each unit is; of those that do not, no matter."""

    def clean(self, name: str) -> Tensor:
        """The value [N, ...] of step ``name`` on the clean images; only of what ``Kind.clean_inputs`` names."""

    def frames(self, name: str) -> Tensor:
        """The same as maps [N, C, H, W], channels last."""

    def switches(self, name: str) -> Tensor:
        """uint8 [N, C, Hp, Wp]: the places of the maxima of the max-pooling ``name``."""

    def gather(self, sources: Sequence[Any], frames: Tensor | None, layout: Layout) -> Windows:
        """Windows of ``layout`` from windows and frames, as ``zfkernels.ops.window_gather``."""


def as_value(signal: Signal, name: str, maps: Maps | None, descent: Descent) -> Tensor:
    """The signal at step ``name`` as a whole value [R, ...], zero outside its windows."""
    if isinstance(signal, Tensor):
        return signal
    assert isinstance(signal, Windows)
    assert maps is not None
    layout = descent.whole(name, name)
    if signal.boxes is not layout.boxes:
        signal = descent.gather([signal], None, layout)
    return maps.value(signal.values.view(-1, *maps.frame, maps.channels).permute(0, 3, 1, 2))


def as_signal(value: Tensor, name: str, maps: Maps | None, sender: str, descent: Descent) -> Signal:
    """The other way round: a whole value [R, ...] at step ``name``, of the units that reach step ``sender``."""
    if maps is None:
        return value
    cells = maps.frames(value).permute(0, 2, 3, 1).reshape(-1, maps.channels)
    return descent.whole(name, sender).windows(cells)


def changed(signal: Signal, rule: Rule) -> Signal:
    """The signal with its numbers changed."""
    if isinstance(signal, Tensor):
        return rule(signal)
    assert isinstance(signal, Windows)
    return replace(signal, values=rule(signal.values))


def unpooled(signal: Pooled, layout: Layout, descent: Descent) -> Windows:
    """The signal at a max-pooling's input: the fused op with filters of one tap that pass each map."""
    channels = signal.windows.values.shape[1]
    return unpool_relu_conv_transpose2d(
        signal.windows, signal.switches, signal.windows.values.new_ones((channels, 1, 1, 1)), groups=channels,
        rectify=False, output_size=signal.unpooled, out_boxes=layout, overlap=descent.overlap, backend=descent.backend,
        **signal.pooling,
    )  # fmt: skip


def derivative(function: Callable[..., Any], signal: Tensor, inputs: Sequence[Tensor]) -> list[Tensor | None]:
    """``signal`` times the derivative of a function at ``inputs``: for each of them, None where there is none."""
    with torch.inference_mode(False), torch.enable_grad():
        leaves = [_leaf(value) for value in inputs]
        moving = [leaf for leaf in leaves if leaf.requires_grad]
        out = function(*leaves)
        if not moving or not out.requires_grad:
            return [None] * len(leaves)
        signal = signal.contiguous()  # torch's gradient of an instance norm of one image is wrong for any other
        grads = iter(torch.autograd.grad(out, moving, _usable(signal), allow_unused=True))
    return [next(grads) if leaf.requires_grad else None for leaf in leaves]


def _leaf(value: Tensor) -> Tensor:
    value = _usable(value.detach())
    return value.requires_grad_() if value.is_floating_point() else value


def _usable(value: Tensor) -> Tensor:
    """A tensor that autograd may keep."""
    return value.clone() if value.is_inference() else value


def usable(tree: Any) -> Any:
    """Arguments of an operation with tensors that autograd may keep."""
    return map_leaves(lambda leaf: _usable(leaf.detach()) if isinstance(leaf, Tensor) else leaf, tree)


class _Ruled(torch.autograd.Function):
    """A function whose derivative is a rule of its own."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, function: Rule, rule: Rule) -> Tensor:
        ctx.rule = rule
        return function(x.clone())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return ctx.rule(gradients[0]), None, None


def ruled(x: Tensor, function: Rule, rule: Rule) -> Tensor:
    """``function(x)``, down through which a signal goes by ``rule``."""
    return _Ruled.apply(x, function, rule)


def accumulate(out: Tensor, index: Tensor, rows: Tensor) -> None:
    """out[index] += rows, in a fixed order on every device."""
    if out.device.type == "cpu":
        out.index_add_(0, index, rows)
    else:  # index_add_ adds with atomics
        out.index_put_((index,), rows, accumulate=True)

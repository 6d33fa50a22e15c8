"""The steps of a traced network, one for each operation, of the kinds that the methods carry windows through.

Kinds:
    input        the images
    conv         convolution (``params``: Conv)
    max_pool     max-pooling (``params``: MaxPool)
    avg_pool     average pooling (``params``: AvgPool)
    relu         a rectifier: ReLU, ReLU6, LeakyReLU, as module, function or method
    lrn          local response normalisation (contrast normalisation across maps)
    batch_norm   batch normalisation in eval mode: a scale and a shift of each map
    identity     does nothing in eval mode: dropout, stochastic depth, contiguous, Identity
    add, cat     addition of two maps (or vectors), concatenation of maps along channels
    mul          product of two maps, one of which may be a gate of one cell (squeeze-excitation)
    shift, scale a constant added to, or multiplied with, each map
    channels     a choice or another order of the channels
    permute      between [N, C, H, W] and [N, H, W, C]
    pointwise    any other function of one cell: other non-linearities, layer norm over channels, linear over channels
    global_pool  mean over the whole frame
    adaptive_pool  adaptive average pooling to a size other than one cell
    flatten      [N, C, H, W] -> [N, C * H * W]
    linear       a fully-connected layer on vectors
    other        anything else; runs on whole frames only
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from zfkernels.windows import Pair, Sliding


@dataclass(frozen=True)
class Conv:
    """``weight`` [C_out, C_in / groups, kh, kw], ``bias`` [C_out] or None; ``relu``: a ReLU is fused in."""

    weight: Tensor
    bias: Tensor | None
    sliding: Sliding
    groups: int
    relu: bool = False


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
class Step:
    """One operation of a traced network.

    Attributes:
        name: unique name (the fx node's).
        label: what a person calls it: the module's path, with ":k" for its k-th call if there are several.
        kind: see the module's docstring.
        inputs: names of the steps that it reads.
        params: Conv, MaxPool, AvgPool, the nn.Module, "plain" (a relu step that is max(x, 0)), or None.
        call: runs it on its inputs' tensors, in order; changes none of them.
        scope: the modules that it was called in, outermost first, with "@k" for their k-th call.
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
        return self.params == "plain"

    @property
    def sliding(self) -> Sliding:
        """Geometry of a conv, max_pool or avg_pool step."""
        return self.params.sliding


SLIDING_KINDS = ("conv", "max_pool", "avg_pool")
LOCAL_KINDS = ("relu", "lrn", "batch_norm", "identity", "shift", "scale", "channels", "permute", "pointwise")
# Kinds that need maps [N, C, H, W], and kinds that spread a change over the whole frame.
MAP_KINDS = (*SLIDING_KINDS, "lrn", "batch_norm", "cat", "global_pool", "adaptive_pool")
FRAME_KINDS = ("global_pool", "adaptive_pool", "flatten", "linear", "other")

_RELU_MODULES = (nn.ReLU, nn.ReLU6, nn.LeakyReLU)
_RELU_FUNCTIONS = {F.relu, F.relu6, F.leaky_relu, torch.relu, torch.relu_, F.relu_, F.leaky_relu_}
_PLAIN_RELU = {F.relu, torch.relu, torch.relu_, F.relu_}
_POINTWISE_MODULES = (
    nn.SiLU, nn.Hardswish, nn.Hardsigmoid, nn.Sigmoid, nn.Tanh, nn.GELU, nn.ELU, nn.SELU, nn.CELU, nn.Softplus,
    nn.Mish, nn.Hardtanh, nn.LogSigmoid, nn.Softsign, nn.Tanhshrink,
)  # fmt: skip
_POINTWISE_FUNCTIONS = {
    F.silu, F.hardswish, F.hardsigmoid, F.gelu, F.elu, F.selu, F.celu, F.softplus, F.mish, F.hardtanh,
    torch.sigmoid, torch.tanh, F.sigmoid, F.tanh, torch.exp, torch.abs, torch.neg, operator.neg,
}  # fmt: skip
_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout, nn.Identity)
_ADD = {operator.add, operator.iadd, torch.add}
_MUL = {operator.mul, operator.imul, torch.mul}
_SUB = {operator.sub, operator.isub, torch.sub}
_DIV = {operator.truediv, torch.div}
_IDENTITY_METHODS = {"contiguous", "clone", "detach", "float"}
_PERMUTED: dict[tuple[int, ...], str] = {(0, 2, 3, 1): "NHWC", (0, 3, 1, 2): "NCHW"}
_NO_INPLACE = {operator.iadd: operator.add, operator.imul: operator.mul, operator.isub: operator.sub}


@dataclass(frozen=True)
class Role:
    """What :func:`classify` finds out about an fx node."""

    kind: str
    params: Any = None
    call: Callable[..., Any] | None = None
    inputs: tuple[fx.Node, ...] | None = None


def classify_module(module: nn.Module, layout: str) -> Role:
    """The role of a leaf module with one input."""
    role = Role("other")
    if isinstance(module, nn.Conv2d):
        role = _conv(module)
    elif isinstance(module, nn.MaxPool2d):
        role = _max_pool(module.kernel_size, module.stride, module.padding, module.dilation, module.ceil_mode)
        role = Role("other") if module.return_indices else role
    elif isinstance(module, nn.AvgPool2d):
        role = _avg_pool(
            module.kernel_size, module.stride, module.padding, module.ceil_mode, module.count_include_pad,
            module.divisor_override,
        )  # fmt: skip
    elif isinstance(module, _RELU_MODULES):
        role = Role("relu", "plain" if type(module) is nn.ReLU else None)
    elif isinstance(module, nn.LocalResponseNorm):
        role = Role("lrn", module)
    elif isinstance(module, nn.BatchNorm2d) and layout == "NCHW" and module.running_var is not None:
        role = Role("batch_norm", module)
    elif isinstance(module, _DROPOUTS) or type(module).__name__ == "StochasticDepth":
        role = Role("identity")
    elif isinstance(module, _POINTWISE_MODULES):
        role = Role("pointwise", module)
    elif isinstance(module, nn.AdaptiveAvgPool2d):
        role = _adaptive_pool(module.output_size)
    elif (isinstance(module, nn.LayerNorm) and layout == "NHWC" and len(module.normalized_shape) == 1) or (
        type(module).__name__ == "LayerNorm2d" and layout == "NCHW"
    ):
        role = Role("pointwise", module)
    elif isinstance(module, nn.Linear) and layout != "NCHW":
        role = Role("pointwise" if layout == "NHWC" else "linear", module)
    elif isinstance(module, nn.Flatten) and (module.start_dim, module.end_dim) == (1, -1):
        role = Role("flatten")
    if getattr(module, "inplace", False):
        module = copy.copy(module)  # shares the parameters; only the flag differs
        module.__dict__["inplace"] = False
    return Role(role.kind, role.params, module)


def classify_function(node: fx.Node, layout: str) -> Role:
    """The role of a call of a function or method on tensors."""
    tensors = [a for a in node.args if isinstance(a, fx.Node)]
    target: Any = node.target
    args: Any = node.args
    kwargs: Any = dict(node.kwargs)
    method = target.rstrip("_") if isinstance(target, str) else None
    dims = {k: v for k, v in kwargs.items() if k != "inplace"}
    role = Role("other")
    if target in _RELU_FUNCTIONS or method in ("relu", "leaky_relu"):
        role = Role("relu", "plain" if target in _PLAIN_RELU or method == "relu" else None)
    elif target in _POINTWISE_FUNCTIONS or method in ("sigmoid", "tanh", "neg", "exp", "abs"):
        role = Role("pointwise")
    elif target in (F.max_pool2d, torch.max_pool2d) and not kwargs.get("return_indices"):
        role = _max_pool(**_bound(("kernel_size", "stride", "padding", "dilation", "ceil_mode"), args[1:], kwargs))
    elif target is F.avg_pool2d:
        names = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")
        role = _avg_pool(**_bound(names, args[1:], kwargs))
    elif getattr(target, "__name__", "") == "stochastic_depth" or target is F.dropout or method in _IDENTITY_METHODS:
        role = Role("identity", call=lambda x, *rest: x, inputs=tuple(tensors[:1]))
    elif target is torch.cat and layout == "NCHW" and _bound(("tensors", "dim"), args, kwargs).get("dim", 0) in (1, -3):
        tensors = list(args[0])
        role = Role("cat", call=lambda *maps: torch.cat(maps, 1), inputs=tuple(tensors))
    elif len(set(tensors)) < len(tensors):
        role = Role("other")  # x + x: a step names each input once
    elif target in _ADD and len(tensors) == 2 and not dims:
        role = Role("add")
    elif target in _MUL and len(tensors) == 2:
        role = Role("mul")
    elif target in _ADD or (target in _SUB and args[0] in tensors):
        role = Role("shift" if len(tensors) == 1 and not dims else "other")
    elif target in _MUL or (target in _DIV and args[0] in tensors):
        role = Role("scale" if len(tensors) == 1 and not dims else "other")
    elif target is F.adaptive_avg_pool2d:
        role = _adaptive_pool(_bound(("output_size",), args[1:], kwargs)["output_size"])
    elif (method == "mean" or target is torch.mean) and layout == "NCHW":
        axes = sorted(d % 4 for d in _bound(("dim", "keepdim"), args[1:], kwargs).get("dim", (0,)))
        role = Role("global_pool") if axes == [2, 3] else role
    elif method == "permute" or target is torch.permute:
        role = Role("permute") if _PERMUTED.get(_permutation(node), layout) != layout and layout else role
    elif method == "flatten" or target is torch.flatten:
        role = Role("flatten") if args[1:] in ((1,), (1, -1)) or kwargs.get("start_dim") == 1 else role
    elif getattr(target, "__name__", "") == "channel_shuffle" and layout == "NCHW":
        role = Role("channels")
    elif target is F.layer_norm and layout == "NHWC" and len(args[1]) == 1:
        role = Role("pointwise")
    elif target is operator.getitem and _is_channel_chunk(args[0]) and isinstance(args[1], int):
        source, pieces = args[0].args[0], args[0].args[1]
        return Role("channels", call=lambda x: x.chunk(pieces, 1)[args[1]], inputs=(source,))
    elif target is torch.unsqueeze and args[1:] == (1,) and _is_one_channel(args[0]):
        channel = args[0].args[1][1]
        return Role("channels", call=lambda x: x[:, channel : channel + 1], inputs=(args[0].args[0],))
    return Role(role.kind, role.params, role.call, role.inputs)


def layout_after(node: fx.Node, layout: str, kind: str) -> str:
    """Layout of a node's output, from that of its first input."""
    if kind in ("flatten", "linear", "other"):
        return ""
    if kind in ("global_pool", "adaptive_pool") and node.kwargs.get("keepdim") is not True and _is_mean(node):
        return ""  # x.mean((2, 3)) leaves vectors
    if kind == "permute":
        return _PERMUTED[_permutation(node)]
    return layout


def without_inplace(node: fx.Node) -> tuple[Any, dict[str, Any]]:
    """Target and keyword arguments of a call that leaves its inputs alone."""
    kwargs = dict(node.kwargs)
    if kwargs.get("inplace"):
        kwargs["inplace"] = False
    target: Any = node.target
    if node.op == "call_method" and isinstance(target, str) and target.endswith("_") and not target.endswith("__"):
        target = target[:-1]
    elif node.op == "call_function":
        target = _NO_INPLACE.get(target, target)
        name = getattr(target, "__name__", "")
        if name.endswith("_") and not name.endswith("__"):
            target = getattr(torch, name[:-1], target)
    return target, kwargs


def _conv(module: nn.Conv2d) -> Role:
    padding: Any = module.padding
    sliding = Sliding(_pair(module.kernel_size), _pair(module.stride), (0, 0), _pair(module.dilation))
    if padding == "valid":
        padding = (0, 0)
    elif padding == "same":
        total = [e - 1 for e in sliding.extent]
        if any(t % 2 for t in total):
            return Role("other")
        padding = (total[0] // 2, total[1] // 2)
    if module.padding_mode != "zeros":
        return Role("other")
    sliding = Sliding(sliding.kernel, sliding.stride, _pair(padding), sliding.dilation)
    return Role("conv", Conv(module.weight.detach(), _detached(module.bias), sliding, module.groups))


def _max_pool(
    kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False
) -> Role:
    kernel = _pair(kernel_size)
    sliding = Sliding(kernel, _pair(stride) if stride else kernel, _pair(padding), _pair(dilation))
    return Role("max_pool" if kernel[0] * kernel[1] <= 256 else "other", MaxPool(sliding, ceil_mode))


def _avg_pool(
    kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False, count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Role:  # fmt: skip
    kernel = _pair(kernel_size)
    sliding = Sliding(kernel, _pair(stride) if stride else kernel, _pair(padding))
    return Role("avg_pool", AvgPool(sliding, ceil_mode, count_include_pad, divisor_override))


def _adaptive_pool(output_size: Any) -> Role:
    size = (output_size, output_size) if output_size is None or isinstance(output_size, int) else tuple(output_size)
    return Role("global_pool" if size == (1, 1) else "adaptive_pool", size)


def _is_mean(node: fx.Node) -> bool:
    return node.target == "mean" or node.target is torch.mean


def _pair(value: Any) -> Pair:
    return (value, value) if isinstance(value, int) else tuple(value) * (2 // len(value))


def _detached(value: Tensor | None) -> Tensor | None:
    return None if value is None else value.detach()


def _bound(names: tuple[str, ...], args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    return {**dict(zip(names, args, strict=False)), **{k: v for k, v in kwargs.items() if k in names}}


def _permutation(node: fx.Node) -> tuple[int, ...]:
    args: Any = node.args
    dims: Any = args[1:] if len(args) > 2 else args[1] if len(args) == 2 else node.kwargs["dims"]
    return tuple(d % 4 for d in dims) if all(isinstance(d, int) for d in dims) else ()


def _is_channel_chunk(node: Any) -> bool:
    return (
        isinstance(node, fx.Node)
        and node.target == "chunk"
        and (*node.args[2:], node.kwargs.get("dim"))
        in (
            (1, None),
            (1,),
        )
    )


def _is_one_channel(node: Any) -> bool:
    if not (isinstance(node, fx.Node) and node.target is operator.getitem and isinstance(node.args[1], tuple)):
        return False
    index = node.args[1]
    return len(index) == 2 and index[0] == slice(None) and isinstance(index[1], int) and index[1] >= 0

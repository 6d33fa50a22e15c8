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
    shift, scale a constant, the same all over the frame, added to, or multiplied with, each map
    channels     a choice or another order of the channels
    permute      between [N, C, H, W] and [N, H, W, C]
    pointwise    any other function of one cell: other non-linearities, layer norm over channels, linear over channels
    global_pool  mean over the whole frame
    adaptive_pool  adaptive average pooling to a size other than one cell
    flatten      [N, C, H, W] (or [N, H, W, C]) -> [N, all of it]
    linear       a fully-connected layer on vectors
    other        anything else; runs on whole frames only
"""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from zfkernels.trace.refusals import draws_lots
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
MAP_KINDS = (*SLIDING_KINDS, "lrn", "batch_norm", "cat", "channels", "global_pool", "adaptive_pool")
FRAME_KINDS = ("global_pool", "adaptive_pool", "flatten", "linear", "other")

_RELU_MODULES = (nn.ReLU, nn.ReLU6, nn.LeakyReLU)
_RELU_FUNCTIONS = {F.relu, F.relu6, F.leaky_relu, torch.relu}
_PLAIN_RELU = {F.relu, torch.relu}
_POINTWISE_MODULES = (
    nn.SiLU, nn.Hardswish, nn.Hardsigmoid, nn.Sigmoid, nn.Tanh, nn.GELU, nn.ELU, nn.SELU, nn.CELU, nn.Softplus,
    nn.Mish, nn.Hardtanh, nn.LogSigmoid, nn.Softsign, nn.Tanhshrink,
)  # fmt: skip
_POINTWISE_FUNCTIONS = {
    F.silu, F.hardswish, F.hardsigmoid, F.gelu, F.elu, F.selu, F.celu, F.softplus, F.mish, F.hardtanh,
    torch.sigmoid, torch.tanh, F.sigmoid, F.tanh, torch.exp, torch.abs, torch.neg, operator.neg, torch.sqrt,
    torch.clamp, torch.pow, operator.pow,
}  # fmt: skip
_POINTWISE_METHODS = {"sigmoid", "tanh", "neg", "exp", "abs", "sqrt", "clamp", "pow", "float"}
_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout, nn.Identity)
ARITHMETIC: dict[Any, str] = {
    **dict.fromkeys((operator.add, torch.add, "add"), "add"),
    **dict.fromkeys((operator.sub, torch.sub, "sub"), "sub"),
    **dict.fromkeys((operator.mul, torch.mul, "mul"), "mul"),
    **dict.fromkeys((operator.truediv, torch.div, "div"), "div"),
}
_IDENTITY_METHODS = {"contiguous", "clone", "detach"}
_PERMUTED: dict[tuple[int, ...], str] = {(0, 2, 3, 1): "NHWC", (0, 3, 1, 2): "NCHW"}
# Modules that take nothing but maps; of the steps of kind "other", modules that do not make maps of maps, and functions
# that do.
PLANAR_MODULES = (nn.Conv2d, nn.BatchNorm2d, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d)
_RESHAPING_MODULES = (nn.Flatten, nn.Unflatten, nn.Fold, nn.Unfold, nn.MaxPool2d)
_FRAME_FUNCTIONS = {
    F.interpolate, F.pad, F.group_norm, F.instance_norm, F.conv2d, F.conv_transpose2d, F.pixel_shuffle,
    F.adaptive_max_pool2d,
}  # fmt: skip


@dataclass(frozen=True)
class Role:
    """What is found out about an fx node; ``maps``: a mean or step of kind "other" that leaves maps."""

    kind: str
    params: Any = None
    call: Callable[..., Any] | None = None
    inputs: tuple[fx.Node, ...] | None = None
    maps: bool = False


def is_layer_norm2d(module: nn.Module) -> bool:
    """torchvision's layer norm over the channels of maps; what others call by this name may be another function."""
    known = getattr(sys.modules.get("torchvision.models.convnext"), "LayerNorm2d", None)
    return known is not None and type(module) is known


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
    elif isinstance(module, _DROPOUTS):
        role = Role("identity")
    elif isinstance(module, _POINTWISE_MODULES) or (isinstance(module, nn.PReLU) and layout == "NCHW"):
        role = Role("pointwise", module)
    elif isinstance(module, nn.AdaptiveAvgPool2d):
        role = _adaptive_pool(module.output_size)
    elif (isinstance(module, nn.LayerNorm) and layout == "NHWC" and len(module.normalized_shape) == 1) or (
        is_layer_norm2d(module) and layout == "NCHW"
    ):
        role = Role("pointwise", module)
    elif isinstance(module, nn.Linear) and layout != "NCHW":
        role = Role("pointwise" if layout == "NHWC" else "linear", module)
    elif isinstance(module, nn.Flatten) and (module.start_dim, module.end_dim) == (1, -1):
        role = Role("flatten")
    return Role(role.kind, role.params, module, maps=not isinstance(module, _RESHAPING_MODULES))


def classify_function(node: fx.Node, layout: str) -> Role:
    """The role of a call of a function or method on tensors."""
    tensors = tuple(a for a in node.args if isinstance(a, fx.Node))
    target: Any = node.target
    args: Any = node.args
    kwargs: Any = node.kwargs
    method = target if isinstance(target, str) else None
    role = Role("other", maps=target in _FRAME_FUNCTIONS)
    if target in _RELU_FUNCTIONS or method in ("relu", "leaky_relu"):
        role = Role("relu", "plain" if target in _PLAIN_RELU or method == "relu" else None)
    elif (target in _POINTWISE_FUNCTIONS or method in _POINTWISE_METHODS) and len(node.all_input_nodes) == 1:
        role = Role("pointwise")
    elif target in (F.max_pool2d, torch.max_pool2d) and not kwargs.get("return_indices"):
        role = _max_pool(**_bound(("kernel_size", "stride", "padding", "dilation", "ceil_mode"), args[1:], kwargs))
    elif target is F.avg_pool2d:
        names = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")
        role = _avg_pool(**_bound(names, args[1:], kwargs))
    elif method in _IDENTITY_METHODS or (draws_lots(node) is False and target is not F.rrelu):
        role = Role("identity", call=lambda x: x, inputs=tuple(node.all_input_nodes[:1]))
    elif target in (torch.cat, torch.concat, torch.concatenate) and layout == "NCHW":
        bound = _bound(("tensors", "dim"), args, kwargs)
        if bound.get("dim") in (1, -3):
            role = Role("cat", call=lambda *maps: torch.cat(maps, 1), inputs=tuple(bound["tensors"]))
        else:
            role = Role("other", maps=True)
    elif target in ARITHMETIC and len(args) == 2 and not kwargs:
        role = Role(ARITHMETIC[target], inputs=tensors)
    elif target is F.adaptive_avg_pool2d:
        role = _adaptive_pool(_bound(("output_size",), args[1:], kwargs)["output_size"])
    elif (method == "mean" or target is torch.mean) and layout == "NCHW":
        bound = _bound(("dim", "keepdim"), args[1:], kwargs)
        dims = bound.get("dim", ())
        axes = sorted(d % 4 for d in ((dims,) if isinstance(dims, int) else dims))
        role = Role("global_pool" if axes == [2, 3] else "other", maps=bound.get("keepdim") is True)
    elif method == "permute" or target is torch.permute:
        role = Role("permute") if _PERMUTED.get(_permutation(node), layout) != layout and layout else role
    elif method == "flatten" or target is torch.flatten:
        bound = _bound(("start_dim", "end_dim"), args[1:], kwargs)
        role = Role("flatten") if (bound.get("start_dim"), bound.get("end_dim", -1)) == (1, -1) else role
    elif (method in ("view", "reshape") or target is torch.reshape) and _is_flat(node):
        role = Role("flatten", call=lambda x: x.flatten(1), inputs=(args[0],))
    elif getattr(target, "__name__", "") == "channel_shuffle" and layout == "NCHW":
        role = Role("channels")
    elif target is F.layer_norm and layout == "NHWC" and len(args[1]) == 1:
        role = Role("pointwise")
    elif target is operator.getitem and len(node.all_input_nodes) == 1:
        role = _piece(node)
    elif target is torch.unsqueeze and args[1:] == (1,) and _is_one_channel(args[0]):
        channel = args[0].args[1][1]
        role = Role("channels", call=lambda x: x[:, channel : channel + 1], inputs=(args[0].args[0],))
    return role


def arithmetic(kind: str, node: fx.Node, layouts: list[str], constants: dict[str, Any]) -> str:
    """The kind of a sum, difference, product or quotient of steps with ``layouts`` (two, or one and a constant)."""
    if len(layouts) == 2:
        return kind if kind in ("add", "mul") and layouts[0] == layouts[1] else "other"
    x, other = node.args
    first = isinstance(x, fx.Node) and x.name not in constants
    other = other if first else x
    if not _same_everywhere(constants[other.name] if isinstance(other, fx.Node) else other, layouts[0]):
        return "other"
    if kind in ("sub", "div") and not first:
        return "pointwise"
    return "shift" if kind in ("add", "sub") else "scale"


def layout_after(node: fx.Node, layout: str, kind: str, maps: bool) -> str:
    """Layout of a node's output, from that of its first input."""
    if kind in ("flatten", "linear") or (kind in ("global_pool", "other") and not maps):
        return ""
    if kind == "permute":
        return _PERMUTED[_permutation(node)]
    return layout


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
    return Role("global_pool" if size == (1, 1) else "adaptive_pool", size, maps=True)


def _is_flat(node: fx.Node) -> bool:
    """``x.view(x.size(0), -1)`` and its like."""
    args: Any = node.args
    x, shape = args[0], args[1] if len(args) == 2 else args[1:]
    if not isinstance(shape, (tuple, list)) or len(shape) != 2 or shape[1] != -1 or not isinstance(shape[0], fx.Node):
        return False
    count: Any = shape[0]
    if count.target is operator.getitem and count.args[1] == 0:
        shape_of = count.args[0]
        return shape_of.args in ((x,), (x, "shape")) and shape_of.target in ("size", getattr)
    return count.target == "size" and count.args == (x, 0)


def _same_everywhere(constant: Any, layout: str) -> bool:
    """Whether a constant that meets maps of ``layout`` is the same in all cells of the frame."""
    if not isinstance(constant, Tensor):
        return isinstance(constant, (int, float))
    if constant.numel() == 1 or not layout:
        return True
    frame = constant.shape[-2:] if layout == "NCHW" else (1, 1, *constant.shape[:-1])[-2:]
    return tuple(frame) == (1, 1)


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


def _piece(node: fx.Node) -> Role:
    """``x.chunk(2, 1)[k]``, ``torch.split(x, 3, dim=1)[k]``, ``x[:, a:b]``: some of the channels."""
    source: Any = node.args[0]
    index: Any = node.args[1]
    name = source.target if isinstance(source.target, str) else getattr(source.target, "__name__", "")
    if source.target in ("chunk", "split", torch.chunk, torch.split) and isinstance(index, int):
        (x, *rest), options = source.args, source.kwargs
        if (*rest[1:], *options.values()) in ((1,), (-3,)) and set(options) <= {"dim"}:
            return Role("channels", call=lambda x: getattr(x, name)(*rest, **options)[index], inputs=(x,))
    slices = isinstance(index, tuple) and len(index) == 2 and index[0] == slice(None) and isinstance(index[1], slice)
    return Role("channels" if slices else "other")


def _is_one_channel(node: Any) -> bool:
    if not (isinstance(node, fx.Node) and node.target is operator.getitem and isinstance(node.args[1], tuple)):
        return False
    index = node.args[1]
    return len(index) == 2 and index[0] == slice(None) and isinstance(index[1], int) and index[1] >= 0

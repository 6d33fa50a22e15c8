"""From a recorded operation to its kind: which of the steps of :mod:`zfkernels.trace.steps` it is."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from zfkernels.network import INPUT, Ref, Sized
from zfkernels.network import Step as Recorded
from zfkernels.trace.steps import (
    AvgPool,
    BatchNorm,
    Channels,
    Conv,
    Gelu,
    LayerNorm,
    Linear,
    MaxPool,
    concatenate,
    flatten,
    same,
)
from zfkernels.windows import Pair, Sliding

aten = torch.ops.aten
N = Sized(1, 0)


@dataclass(frozen=True)
class Role:
    """What an operation is; None: as recorded. ``layout``: of its value."""

    kind: str = "other"
    params: Any = None
    call: Callable[..., Any] | None = None
    inputs: tuple[str, ...] | None = None
    layout: str | None = None


@dataclass(frozen=True)
class Source:
    """What is known of a step that an operation reads."""

    shape: tuple[int | Sized, ...]
    layout: str


OTHER = Role()
_POINTWISE = {
    "silu", "hardswish", "hardsigmoid", "sigmoid", "tanh", "elu", "selu", "celu", "softplus", "mish", "hardtanh",
    "log_sigmoid", "exp", "abs", "neg", "sqrt", "rsqrt", "clamp", "clamp_min", "clamp_max", "pow", "threshold",
    "reciprocal", "log", "erf", "sign", "rrelu", "square", "logit", "rsub",
}  # fmt: skip
_SAME = {"contiguous", "clone", "alias", "detach"}
_RESHAPES = {"reshape", "flatten", "squeeze", "unsqueeze", "view_as", "reshape_as", "unflatten"}


def classify(step: Recorded, sources: Mapping[str, Source]) -> Role:
    """The role of an operation that reads steps with maps or vectors."""
    if step.name == INPUT:
        return Role("input", layout="NCHW")
    name = _name(step)
    given = _given(step)
    rule = _RULES.get(name)
    first = step.args[0] if step.args else None
    if name == "cat":
        return _cat(given, sources)
    if name in ("add", "sub", "mul", "div"):
        return _arithmetic(name, step, given, sources)
    if not isinstance(first, Ref) or len(step.inputs) != 1:
        return OTHER
    source = sources[first.name]
    role = OTHER
    if rule is not None:
        role = rule(given, source)
    elif name in _POINTWISE or (name == "to" and step.shape == source.shape):
        role = Role("pointwise")
    elif name in _SAME or (name in _RESHAPES and step.shape == source.shape):
        role = Role("identity", call=same)
    elif name in _RESHAPES and len(source.shape) == 4 and _is_vector(step.shape) and source.shape[0] == N:
        role = Role("flatten", call=flatten, layout="")
    return role


def layout_of(step: Recorded, role: Role, sources: Mapping[str, Source]) -> str:
    """The layout of a step's value: that of the first maps that it reads, as long as there are maps."""
    if role.layout is not None:
        return role.layout
    if len(step.shape) != 4 or step.shape[0] != N:
        return ""
    return next((sources[name].layout for name in step.inputs if sources[name].layout), "")


def channels_of(step: Recorded, source: Recorded, before: Source) -> Tensor | None:
    """The channels that ``getitem(chunk(x, …), k)`` or ``unsqueeze(select(x, 1, k), 1)`` takes of x, or None."""
    if before.layout != "NCHW" or len(step.shape) != 4:
        return None
    given = _given(source)
    every = torch.arange(_int(before.shape[1]))
    name = _name(source)
    if step.op is _GETITEM and name in ("chunk", "split", "split_with_sizes", "tensor_split"):
        if given["dim"] % 4 != 1:
            return None
        arguments = [value for key, value in given.items() if key not in ("self", "tensor", "dim")]
        pieces: Any = getattr(torch, name)(every, arguments[0], 0)
        return pieces[step.args[1]]
    if _name(step) == "unsqueeze" and name == "select" and given["dim"] in (1, -3) and _given(step)["dim"] in (1, -4):
        return every[given["index"]][None]
    return None


def shuffled(steps: tuple[Recorded, ...], before: Source) -> Tensor | None:
    """The order of channels that reshape → transpose → (contiguous →) reshape makes of maps, or None."""
    shape, split = before.shape, steps[0].shape
    if before.layout != "NCHW" or len(split) != 5 or steps[-1].shape != shape or split[0] != N:
        return None
    if split[3:] != shape[2:] or {abs(int(d)) for d in steps[1].args[1:]} != {1, 2}:
        return None
    groups, each = _int(split[1]), _int(split[2])
    return torch.arange(groups * each).view(groups, each).T.flatten()


def _name(step: Recorded) -> str:
    if isinstance(step.op, torch._ops.OpOverload):
        return step.op._schema.name.partition("::")[2]
    return getattr(step.op, "__name__", "")


def _given(step: Recorded) -> dict[str, Any]:
    """An operation's arguments by name, defaults included."""
    if not isinstance(step.op, torch._ops.OpOverload):
        return dict(step.kwargs)
    arguments = step.op._schema.arguments
    given = {argument.name: argument.default_value for argument in arguments}
    given.update(zip((argument.name for argument in arguments), step.args, strict=False))
    return {**given, **step.kwargs}


def _conv(given: Mapping[str, Any], source: Source) -> Role:
    weight, bias = given["weight"], given["bias"]
    if not isinstance(weight, Tensor) or isinstance(bias, Ref) or len(source.shape) != 4 or source.shape[0] != N:
        return OTHER
    kernel = (weight.shape[2], weight.shape[3])
    sliding = Sliding(kernel, _pair(given["stride"]), (0, 0), _pair(given["dilation"]))
    padding = given["padding"]
    if padding == "valid":
        padding = (0, 0)
    elif padding == "same":
        total = [extent - 1 for extent in sliding.extent]
        if any(t % 2 for t in total):
            return Role(layout="NCHW")
        padding = (total[0] // 2, total[1] // 2)
    sliding = Sliding(kernel, sliding.stride, _pair(padding), sliding.dilation)
    bias = None if bias is None else bias.detach()
    return Role("conv", Conv(weight.detach(), bias, sliding, given["groups"]), layout="NCHW")


def _max_pool(given: Mapping[str, Any], source: Source) -> Role:
    kernel = _pair(given["kernel_size"])
    stride = _pair(given["stride"]) if given["stride"] else kernel
    sliding = Sliding(kernel, stride, _pair(given["padding"]), _pair(given["dilation"]))
    small = kernel[0] * kernel[1] <= 256 and source.layout == "NCHW"
    return Role("max_pool", MaxPool(sliding, given["ceil_mode"])) if small else OTHER


def _avg_pool(given: Mapping[str, Any], source: Source) -> Role:
    if source.layout != "NCHW":
        return OTHER
    kernel = _pair(given["kernel_size"])
    sliding = Sliding(kernel, _pair(given["stride"]) if given["stride"] else kernel, _pair(given["padding"]))
    return Role("avg_pool", AvgPool(sliding, given["ceil_mode"], given["count_include_pad"], given["divisor_override"]))


def _adaptive_pool(given: Mapping[str, Any], source: Source) -> Role:
    size = tuple(given["output_size"])
    if source.layout != "NCHW":
        return OTHER
    return Role("global_pool" if size == (1, 1) else "adaptive_pool", size)


def _mean(given: Mapping[str, Any], source: Source) -> Role:
    axes = sorted(d % 4 for d in given["dim"] or ())
    whole = source.layout == "NCHW" and axes == [2, 3] and given["dtype"] is None
    return Role("global_pool") if whole else OTHER


def _batch_norm(given: Mapping[str, Any], source: Source) -> Role:
    weight, bias, mean, var = (given[key] for key in ("weight", "bias", "running_mean", "running_var"))
    fixed = all(isinstance(value, Tensor) for value in (mean, var)) and not isinstance(weight, Ref)
    if source.layout != "NCHW" or given["training"] or not fixed or isinstance(bias, Ref):
        return OTHER
    if weight is not None or bias is not None:
        weight = torch.ones_like(var) if weight is None else weight.detach()
        bias = torch.zeros_like(var) if bias is None else bias.detach()
    return Role("batch_norm", BatchNorm(weight, bias, mean, var, given["eps"]))


def _layer_norm(given: Mapping[str, Any], source: Source) -> Role:
    weight = given["weight"]
    if source.layout != "NHWC" or len(given["normalized_shape"]) != 1 or isinstance(weight, Ref):
        return OTHER
    return Role("pointwise", LayerNorm(None if weight is None else weight.detach(), given["eps"]))


def _linear(given: Mapping[str, Any], source: Source) -> Role:
    weight = given["weight"]
    if not isinstance(weight, Tensor) or isinstance(given["bias"], Ref) or source.layout == "NCHW":
        return OTHER
    kind = "pointwise" if source.layout == "NHWC" else "linear"
    return Role(kind, Linear(weight.detach())) if kind == "pointwise" or len(source.shape) == 2 else OTHER


def _permute(given: Mapping[str, Any], source: Source) -> Role:
    order = tuple(d % len(source.shape) for d in given["dims"])
    layout = {(0, 2, 3, 1): "NHWC", (0, 3, 1, 2): "NCHW"}.get(order)
    return Role("permute", layout=layout) if source.layout and layout and layout != source.layout else OTHER


def _slice(given: Mapping[str, Any], source: Source) -> Role:
    if source.layout != "NCHW" or given["dim"] % 4 != 1:
        return OTHER
    chosen = torch.arange(_int(source.shape[1]))[given["start"] : given["end"] : given["step"]]
    return Role("channels", call=Channels(chosen)) if len(chosen) else OTHER


def _index(given: Mapping[str, Any], source: Source) -> Role:
    indices = given["indices"]
    if source.layout != "NCHW" or len(indices) != 2 or indices[0] is not None or not isinstance(indices[1], Tensor):
        return OTHER
    chosen = torch.arange(_int(source.shape[1]))[indices[1].cpu()]
    return Role("channels", call=Channels(chosen)) if chosen.dim() == 1 and len(chosen) else OTHER


def _index_select(given: Mapping[str, Any], source: Source) -> Role:
    return _index({"indices": [None, given["index"]]}, source) if given["dim"] in (1, -3) else OTHER


def _flip(given: Mapping[str, Any], source: Source) -> Role:
    if source.layout != "NCHW" or [d % 4 for d in given["dims"]] != [1]:
        return OTHER
    return Role("channels", call=Channels(torch.arange(_int(source.shape[1])).flip(0)))


def _roll(given: Mapping[str, Any], source: Source) -> Role:
    if source.layout != "NCHW" or [d % 4 for d in given["dims"] or (0,)] != [1]:
        return OTHER
    return Role("channels", call=Channels(torch.arange(_int(source.shape[1])).roll(given["shifts"][0])))


def _prelu(given: Mapping[str, Any], source: Source) -> Role:
    return Role("pointwise") if source.layout == "NCHW" and isinstance(given["weight"], Tensor) else OTHER


def _clamp(given: Mapping[str, Any], source: Source) -> Role:
    low, high = given["min"], given.get("max")
    if isinstance(low, Tensor) or isinstance(high, Tensor):
        return OTHER
    return Role("relu", "plain") if low == 0 and high is None else Role("pointwise")


def _threshold(given: Mapping[str, Any], source: Source) -> Role:
    plain = given["threshold"] == 0 and given["value"] == 0
    return Role("relu", "plain") if plain else Role("pointwise")


def _hardtanh(given: Mapping[str, Any], source: Source) -> Role:
    return Role("relu" if given["min_val"] == 0 else "pointwise")


_GETITEM = operator.getitem
_RULES: dict[str, Callable[[Mapping[str, Any], Source], Role]] = {
    "conv2d": _conv,
    "max_pool2d": _max_pool,
    "avg_pool2d": _avg_pool,
    "adaptive_avg_pool2d": _adaptive_pool,
    "mean": lambda given, source: _mean(given, source) if "dim" in given else OTHER,
    "batch_norm": _batch_norm,
    "layer_norm": _layer_norm,
    "linear": _linear,
    "permute": _permute,
    "slice": _slice,
    "index": _index,
    "index_select": _index_select,
    "flip": _flip,
    "roll": _roll,
    "prelu": _prelu,
    "relu": lambda given, source: Role("relu", "plain"),
    "relu6": lambda given, source: Role("relu"),
    "leaky_relu": lambda given, source: Role("relu"),
    "hardtanh": _hardtanh,
    "clamp": _clamp,
    "clamp_min": _clamp,
    "threshold": _threshold,
    "gelu": lambda given, source: Role("pointwise", Gelu(given["approximate"])),
    "local_response_norm": lambda given, source: Role("lrn") if source.layout == "NCHW" else OTHER,
}


def _cat(given: Mapping[str, Any], sources: Mapping[str, Source]) -> Role:
    parts = given["tensors"]
    maps = all(isinstance(part, Ref) and sources[part.name].layout == "NCHW" for part in parts)
    if not maps or given["dim"] not in (1, -3):
        return OTHER
    return Role("cat", call=concatenate, inputs=tuple(part.name for part in parts))


def _arithmetic(name: str, step: Recorded, given: Mapping[str, Any], sources: Mapping[str, Source]) -> Role:
    x, other = given["self"], given["other"]
    weight = given.get("alpha", 1)
    if given.get("rounding_mode") is not None or isinstance(weight, Sized):
        return OTHER
    if isinstance(x, Ref) and isinstance(other, Ref):
        layouts = sources[x.name].layout, sources[other.name].layout
        both = layouts[0] == layouts[1] and name in ("add", "mul") and weight == 1
        return Role(name, call=_BINARY[name], inputs=(x.name, other.name)) if both else OTHER
    first = isinstance(x, Ref)
    moving, constant = (x, other) if first else (other, x)
    source = sources[moving.name]
    if step.shape != source.shape or not _same_everywhere(constant, source):
        return OTHER
    if name in ("sub", "div") and not first:
        return Role("pointwise")
    return Role("shift" if name in ("add", "sub") else "scale")


_BINARY: dict[str, Callable[..., Any]] = {"add": torch.add, "mul": torch.mul}


def _same_everywhere(constant: Any, source: Source) -> bool:
    """Whether a constant that meets a value is the same in all cells of the frame, and for all images."""
    if not isinstance(constant, Tensor):
        return isinstance(constant, (int, float))
    if constant.numel() == 1:
        return True
    if not source.layout:
        return constant.dim() < len(source.shape) or constant.shape[0] == 1
    shape = (*[1] * (4 - constant.dim()), *constant.shape)
    frame = shape[2:] if source.layout == "NCHW" else shape[1:3]
    return len(shape) == 4 and (shape[0], *frame) == (1, 1, 1)


def _is_vector(shape: tuple[int | Sized, ...]) -> bool:
    return len(shape) == 2 and shape[0] == N


def _int(side: int | Sized) -> int:
    assert isinstance(side, int), side
    return side


def _pair(value: Any) -> Pair:
    return (value, value) if isinstance(value, int) else (value[0], value[-1])

"""Which operations compute each cell from the channels of the same cell alone, and where their values hold maps.

Each rule takes a step whose inputs all hold maps, and says where the value does; None where the step does more than a
function of one cell. It must hold that the operation does the same on the cells of windows, given as one row of maps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from zfkernels.network.kinds.base import Scene, arguments, is_constant, sizes_of, source
from zfkernels.network.maps import Maps
from zfkernels.network.recording import Ref, Step
from zfkernels.network.tree import leaves


@dataclass(frozen=True)
class Found:
    """Where a function of one cell holds its maps, and its multiply-adds for a cell."""

    maps: Maps
    multiply_adds: int = 0


Rule = Callable[[Step, Scene], Found | None]


def _input(step: Step, scene: Scene) -> tuple[dict[str, Any], Maps, tuple[int, ...]] | None:
    """Arguments, maps of the first input and sizes of the value, of a step whose other arguments are fixed."""
    bound, sizes = arguments(step), sizes_of(step)
    if len(step.inputs) != 1 or sizes is None or not bound:
        return None
    first, *rest = bound.values()
    maps = scene.maps(step.inputs[0])
    if maps is None or source(first) != step.inputs[0] or not is_constant(rest):
        return None
    return bound, maps, sizes


def _axes(dims: Any, maps: Maps) -> tuple[int, ...]:
    """Axes of a value as numbers from 0; all of them where none is given."""
    rank = len(maps.sizes) + 1
    if dims is None or dims == []:
        return tuple(range(rank))
    return tuple(dim % rank for dim in ((dims,) if isinstance(dims, int) else dims))


def _same_axes(maps: Maps, sizes: tuple[int, ...]) -> Found | None:
    """Maps with the same axes of cells, if the value has them."""
    if len(sizes) != len(maps.sizes) or any(sizes[axis - 1] != maps.sizes[axis - 1] for axis in maps.space):
        return None
    return Found(Maps(sizes, maps.rows, maps.columns, maps.frame))


def _without(maps: Maps, sizes: tuple[int, ...], removed: tuple[int, ...]) -> Found:
    rows, columns = (axis - sum(gone < axis for gone in removed) for axis in (maps.rows, maps.columns))
    return Found(Maps(sizes, rows, columns, maps.frame))


def _over_one_axis(argument: str = "dim") -> Rule:
    """Softmax, choices and gated units along an axis of channels, which stays."""

    def rule(step: Step, scene: Scene) -> Found | None:
        known = _input(step, scene)
        if known is None:
            return None
        bound, maps, sizes = known
        axes = _axes(bound[argument], maps)
        return _same_axes(maps, sizes) if set(axes) <= set(maps.channel_axes) else None

    return rule


def _reduction(step: Step, scene: Scene) -> Found | None:
    """Sums, means, maxima, norms over axes of channels."""
    known = _input(step, scene)
    if known is None:
        return None
    bound, maps, sizes = known
    axes = _axes(bound.get("dim"), maps)
    if not set(axes) <= set(maps.channel_axes):
        return None
    return _same_axes(maps, sizes) if bound.get("keepdim") else _without(maps, sizes, axes)


def _choice(step: Step, scene: Scene) -> Found | None:
    """One of the channels; its axis goes."""
    known = _input(step, scene)
    if known is None:
        return None
    bound, maps, sizes = known
    axes = _axes(bound["dim"], maps)
    return _without(maps, sizes, axes) if set(axes) <= set(maps.channel_axes) else None


def _norm_of_the_last(step: Step, scene: Scene) -> Found | None:
    """Layer and root-mean-square norms."""
    known = _input(step, scene)
    if known is None:
        return None
    bound, maps, sizes = known
    rank = len(sizes) + 1
    last = set(range(rank - len(bound["normalized_shape"]), rank))
    return _same_axes(maps, sizes) if last <= set(maps.channel_axes) else None


def _product_with_the_last(step: Step, scene: Scene) -> Found | None:
    """Fully-connected layers on the last axis."""
    known = _input(step, scene)
    if known is None:
        return None
    bound, maps, sizes = known
    weight = bound.get("weight", bound.get("other"))
    if not isinstance(weight, Tensor) or weight.dim() != 2 or len(maps.sizes) not in maps.channel_axes:
        return None
    found = _same_axes(maps, sizes)
    return Found(found.maps, weight.numel() * (maps.channels // maps.sizes[-1])) if found is not None else None


def _one_axis_of_several(step: Step, scene: Scene) -> Found | None:
    """Concatenations and stacks along an axis of channels."""
    bound, sizes = arguments(step), sizes_of(step)
    parts = bound["tensors"]
    if sizes is None or not all(isinstance(part, Ref) for part in parts):
        return None
    places = {(m.rows, m.columns, m.frame, len(m.sizes)) for part in parts if (m := scene.maps(part.name)) is not None}
    if len(places) != 1:
        return None
    rows, columns, frame, rank = next(iter(places))
    axis = bound["dim"] % (len(sizes) + 1)
    if len(sizes) > rank:  # stacked: a new axis
        rows, columns = (place + (axis <= place) for place in (rows, columns))
    if axis == 0 or axis in (rows, columns):
        return None
    return Found(Maps(sizes, rows, columns, frame))


def _padding_of_channels(step: Step, scene: Scene) -> Found | None:
    known = _input(step, scene)
    if known is None:
        return None
    bound, maps, sizes = known
    if bound.get("mode", "constant") != "constant":
        return None
    padding, rank = list(bound["pad"]), len(sizes) + 1
    padded = {rank - 1 - index // 2 for index, cells in enumerate(padding) if cells}
    return _same_axes(maps, sizes) if padded <= set(maps.channel_axes) else None


def _pooling_of_channels(step: Step, scene: Scene) -> Found | None:
    """Average pooling of [N, 1, C, H, W] along C: what local response normalisation is made of."""
    known = _input(step, scene)
    if known is None:
        return None
    bound, maps, sizes = known
    if (len(sizes), maps.rows, maps.columns) != (4, 3, 4):
        return None
    options = [list(bound[name]) for name in ("kernel_size", "stride", "padding")]
    kernel, stride, padding = (values * (3 // len(values)) if values else [] for values in options)
    alone = kernel[1:] == [1, 1] and (stride or kernel)[1:] == [1, 1] and padding[1:] == [0, 0]
    return _same_axes(maps, sizes) if alone else None


def _of_each_map(step: Step, scene: Scene) -> Found | None:
    """What takes maps [N, C, H, W] and looks at the channels of one cell: contrast normalisation, PReLU, shuffles."""
    sizes, maps = sizes_of(step), scene.maps(step.inputs[0])
    constants = [leaf for leaf in leaves((step.args[1:], step.kwargs)) if isinstance(leaf, Ref)]
    if sizes is None or maps is None or constants or not maps.is_planar:
        return None
    return _same_axes(maps, sizes)


RULES: dict[str, Rule] = {
    **dict.fromkeys(("softmax", "log_softmax", "_softmax", "glu", "slice", "narrow", "index_select"), _over_one_axis()),
    **dict.fromkeys(("flip", "roll"), _over_one_axis("dims")),
    **dict.fromkeys(
        ("mean", "sum", "amax", "amin", "var", "std", "linalg_vector_norm", "norm", "logsumexp"), _reduction
    ),
    "select": _choice,
    **dict.fromkeys(("layer_norm", "rms_norm", "_fused_rms_norm"), _norm_of_the_last),
    **dict.fromkeys(("linear", "matmul", "mm"), _product_with_the_last),
    **dict.fromkeys(("cat", "concat", "concatenate", "stack"), _one_axis_of_several),
    **dict.fromkeys(("constant_pad_nd", "pad"), _padding_of_channels),
    "avg_pool3d": _pooling_of_channels,
    **dict.fromkeys(("local_response_norm", "prelu", "channel_shuffle"), _of_each_map),
}

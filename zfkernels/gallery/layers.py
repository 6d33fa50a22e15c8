"""Which layers a gallery shows, and what it needs to know of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from zfkernels.trace import LayerInfo, Step, Trace
from zfkernels.windows import Pair

_KEEPS_SIGN = frozenset(("max_pool", "avg_pool", "global_pool", "identity", "lrn", "cat", "add", "flatten"))


@dataclass(frozen=True)
class Layer:
    """A layer of a gallery.

    Attributes:
        name: As the caller wrote it.
        info: Its row in the table of layers.
        rectified: Its activations are never negative; a map whose maximum is 0 has then never fired.
        field: Rows and columns of the image that an inner activation depends on.
    """

    name: str
    info: LayerInfo
    rectified: bool
    field: Pair


def default_layers(trace: Trace, image_size: Pair) -> list[str]:
    """Every rectifier with feature maps; where there is none, every convolution."""
    maps = [info for info in trace.layer_info(image_size) if info.size is not None]
    return [info.name for info in maps if info.kind == "relu"] or [info.name for info in maps if info.kind == "conv"]


def select_layers(trace: Trace, names: Sequence[str], image_size: Pair) -> list[Layer]:
    """The layers of the given names.

    Raises:
        ValueError: No such layer (the message lists near matches), none at all, the same name twice, or images of a
            size that the network does not take.
    """
    if not names:
        raise ValueError("build_gallery: expected layers at least one name, got none")
    if len(set(names)) < len(names):
        raise ValueError(f"build_gallery: expected layers different names, got {list(names)}")
    try:
        rows = {info.name: info for info in trace.layer_info(image_size)}
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"build_gallery: expected images that fit the model, got {image_size[0]}x{image_size[1]} pixels ({reason})"
        ) from error
    rectified = _rectified(trace)
    layers = []
    for name in names:
        step = trace.by_name[trace.resolve(name)]
        if step.label not in rows or step.layout == "NHWC":
            raise ValueError(f"build_gallery: expected layers of feature maps or units of the image, got {name!r}")
        info = rows[step.label]
        layers.append(Layer(name, info, step.name in rectified, info.receptive_field or image_size))
    return layers


def _rectified(trace: Trace) -> set[str]:
    """Names of the steps whose values are never negative."""
    found: set[str] = set()
    for step in trace.steps:
        keeps = step.kind in _KEEPS_SIGN and step.inputs and found.issuperset(step.inputs)
        if keeps or (step.kind == "relu" and _cuts_off(step)):
            found.add(step.name)
    return found


def _cuts_off(step: Step) -> bool:
    """Whether a rectifier lets no negative value through (a leaky one does)."""
    return bool((step.call(torch.tensor([[[[-1.0]]]])) >= 0).all())

"""Which layers a gallery shows, and what it needs to know of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import Tensor

from zfkernels.methods.deconvnet import DeconvNet
from zfkernels.trace import LayerInfo, Step, Trace
from zfkernels.windows import Pair

KIND = "kind:"  # what stands for all layers of a kind begins with it
_KEEPS_SIGN = frozenset(("max_pool", "avg_pool", "global_pool", "identity", "lrn", "cat", "add", "flatten"))


@dataclass(frozen=True)
class Branch:
    """Maps of a layer that depend on the image in the same way; a concatenation has several such groups.

    Attributes:
        channels: The maps.
        step: Name of the step that they come from.
        field: Rows and columns of the image that an inner activation depends on.
    """

    channels: range
    step: str
    field: Pair

    def members(self, channel: Tensor) -> Tensor:
        """Where in ``channel``, int64 [P], maps of this branch are."""
        return ((channel >= self.channels.start) & (channel < self.channels.stop)).nonzero()[:, 0]


@dataclass(frozen=True)
class Layer:
    """A layer of a gallery.

    Attributes:
        name: As the caller wrote it.
        info: Its row in the table of layers.
        rectified: Its activations are never negative; a map whose maximum is 0 has then never fired.
        branches: All maps, in order.
    """

    name: str
    info: LayerInfo
    rectified: bool
    branches: tuple[Branch, ...]

    @property
    def field(self) -> Pair:
        """Rows and columns of the image that an inner activation of some map depends on."""
        return max(branch.field[0] for branch in self.branches), max(branch.field[1] for branch in self.branches)

    def receptive_fields(
        self,
        net: DeconvNet,
        channel: Tensor,  # int64 [P]
        position: Tensor,  # int64 [P, 2]
        image_size: Pair,
    ) -> Tensor:  # int64 [P, 4]
        """Top, left, bottom and right of what each activation depends on; half-open, clipped to the image."""
        fields = torch.zeros(len(channel), 4, dtype=torch.int64)
        for branch in self.branches:
            here = branch.members(channel)
            fields[here] = net.receptive_field(branch.step, position[here], image_size)
        return fields


def default_layers(trace: Trace, image_size: Pair) -> list[str]:
    """Every rectifier with feature maps; where there is none, every convolution."""
    maps = [info for info in trace.layer_info(image_size) if info.size is not None]
    return [info.name for info in maps if info.kind == "relu"] or [info.name for info in maps if info.kind == "conv"]


def select_layers(trace: Trace, names: Sequence[str], image_size: Pair) -> list[Layer]:
    """The layers of the given names and patterns.

    Raises:
        ValueError: No such layer (the message lists near matches), none at all, the same name twice, a pattern that no
            layer has, or images of a size that the network does not take.
    """
    if not names:
        raise ValueError("build_gallery: expected layers at least one name, got none")
    if len(set(names)) < len(names):
        raise ValueError(f"build_gallery: expected layers different names, got {list(names)}")
    rows = {info.name: info for info in trace.layer_info(image_size)}
    names = _expanded(trace, names, rows)
    rectified = _rectified(trace)
    layers = []
    for name in names:
        step = trace.by_name[trace.resolve(name)]
        if step.label not in rows or step.layout == "NHWC":
            raise ValueError(f"build_gallery: expected layers of feature maps or units of the image, got {name!r}")
        info = rows[step.label]
        branches, start = [], 0
        for part in _branches(trace, step):
            row = rows[part.label]
            channels = range(start, start + row.channels)
            branches.append(Branch(channels, part.name, row.receptive_field or image_size))
            start = channels.stop
        layers.append(Layer(name, info, step.name in rectified, tuple(branches)))
    return layers


def _expanded(trace: Trace, names: Sequence[str], rows: Mapping[str, LayerInfo]) -> list[str]:
    """The names, and in place of each pattern the layers that it fits, each once."""
    found: dict[str, None] = {}
    for name in names:
        kind = name.removeprefix(KIND) if name.startswith(KIND) else None
        if name in rows or (kind is None and not any(sign in name for sign in "*?")):
            found[name] = None
            continue
        fits = [
            row.name
            for row in rows.values()
            if (row.kind == kind if kind is not None else fnmatchcase(row.name, name))
            and trace.by_name[trace.resolve(row.name)].layout != "NHWC"
        ]
        if not fits:
            has = f"; kinds: {sorted({row.kind for row in rows.values()})}" if kind is not None else ""
            raise ValueError(f"build_gallery: expected layers a pattern that some layer fits, got {name!r}{has}")
        found.update(dict.fromkeys(fits))
    return list(found)


def _branches(trace: Trace, step: Step) -> list[Step]:
    """The steps whose maps are those of ``step``, one after the other."""
    inputs = [trace.by_name[name] for name in step.inputs]
    if step.kind == "cat" or (step.kind in ("relu", "batch_norm", "identity") and inputs[0].kind == "cat"):
        return [part for source in inputs for part in _branches(trace, source)]
    return [step]


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

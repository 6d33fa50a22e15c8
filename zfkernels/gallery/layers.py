"""Which layers a gallery shows, and what it needs to know of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import Tensor

from zfkernels.deconvnet import DeconvNet
from zfkernels.geometry import Pair
from zfkernels.network.kinds import Kind
from zfkernels.network.network import LayerInfo, Network

KIND = "kind:"  # what stands for all layers of a kind begins with it


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
        filters: Whether a projection is the map's own filter, scaled: a convolution of the image, or its rectifier.
        branches: All maps, in order.
    """

    name: str
    info: LayerInfo
    rectified: bool
    filters: bool
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


def default_layers(network: Network) -> list[str]:
    """Every rectifier with feature maps; where there is none, every convolution."""
    maps = [info for info in network.layer_info() if info.size is not None]
    return [info.name for info in maps if info.is_rectifier] or [info.name for info in maps if info.is_convolution]


def select_layers(network: Network, names: Sequence[str]) -> list[Layer]:
    """The layers of the given names and patterns.

    Raises:
        ValueError: No such layer (the message lists near matches), none at all, the same name twice, or a pattern that
            no layer has.
    """
    if not names:
        raise ValueError("build_gallery: expected layers at least one name, got none")
    if len(set(names)) < len(names):
        raise ValueError(f"build_gallery: expected layers different names, got {list(names)}")
    names = _expanded(network, names)
    rectified = _rectified(network)
    layers = []
    for name in names:
        kind = network.kinds.get(network.resolve(name))
        if kind is None or not _has_maps(network, kind):
            raise ValueError(f"build_gallery: expected layers of feature maps or units of the image, got {name!r}")
        branches, start = [], 0
        for part in _branches(network, kind):
            row = network.info(part.name)
            channels = range(start, start + row.channels)
            branches.append(Branch(channels, part.name, row.receptive_field or network.size))
            start = channels.stop
        layers.append(
            Layer(name, network.info(kind.name), kind.name in rectified, _shows_filters(network, kind), tuple(branches))
        )
    return layers


def _expanded(network: Network, names: Sequence[str]) -> list[str]:
    """The names, and in place of each pattern the layers that it fits, each once."""
    rows = [info for info in network.layer_info() if _has_maps(network, network.kinds[info.step])]
    found: dict[str, None] = {}
    for name in names:
        kind = name.removeprefix(KIND) if name.startswith(KIND) else None
        if name in network.recording.layers or (kind is None and not any(sign in name for sign in "*?")):
            found[name] = None
            continue
        fits = [row.name for row in rows if (row.kind == kind if kind is not None else fnmatchcase(row.name, name))]
        if not fits:
            has = f"; kinds: {sorted({row.kind for row in rows})}" if kind is not None else ""
            raise ValueError(f"build_gallery: expected layers a pattern that some layer fits, got {name!r}{has}")
        found.update(dict.fromkeys(fits))
    return list(found)


def _has_maps(network: Network, kind: Kind | None) -> bool:
    """Whether a step has feature maps or units of the image."""
    shape = () if kind is None else network.shape(kind.name)
    return kind is not None and bool(shape) and not (len(shape) == 4 and kind.maps and not kind.maps.is_planar)


def _branches(network: Network, kind: Kind) -> list[Kind]:
    """The steps whose maps are those of ``kind``, one after the other."""
    inputs = [network.kinds[name] for name in kind.inputs]
    passes = kind.is_rectifier or kind.affine is not None or kind.is_identity
    if kind.joins:
        return [part for name in kind.joins for part in _branches(network, network.kinds[name])]
    if passes and inputs[0].joins:
        return _branches(network, inputs[0])
    return [kind]


def _shows_filters(network: Network, kind: Kind) -> bool:
    """Whether ``kind`` is a convolution of the image, or a rectifier of one; maps may be scaled and shifted between."""
    kind = _without_scales(network, network.kinds[kind.inputs[0]] if kind.is_rectifier else kind)
    if not network.info(kind.name).is_convolution:
        return False
    return not _without_scales(network, network.kinds[kind.inputs[0]]).inputs


def _without_scales(network: Network, kind: Kind) -> Kind:
    """What ``kind`` and the steps below it scale and shift, map by map."""
    while len(kind.inputs) == 1 and (kind.is_identity or kind.affine is not None):
        kind = network.kinds[kind.inputs[0]]
    return kind


def _rectified(network: Network) -> set[str]:
    """Names of the steps whose values are never negative."""
    found: set[str] = set()
    for kind in network.kinds.values():
        keeps = kind.keeps_sign and kind.inputs and found.issuperset(kind.inputs)
        if keeps or (kind.is_rectifier and _cuts_off(kind)):
            found.add(kind.name)
    return found


def _cuts_off(kind: Kind) -> bool:
    """Whether a rectifier lets no negative value through (a leaky one does)."""
    return bool((kind.run({kind.inputs[0]: torch.tensor([[[[-1.0]]]])}, 1) >= 0).all())

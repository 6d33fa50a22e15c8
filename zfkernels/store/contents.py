"""What is kept of the sweep of one image: arrays with names, and the names of their dimensions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zfkernels.results import OcclusionFills, OcclusionMap
from zfkernels.results.files import as_array

Named = Mapping[str, tuple[tuple[str, ...], np.ndarray]]
EFFECT = "drop"
ALIKE = ("class", "clean", "channel", "clean_activity")  # with every fill


@dataclass(frozen=True)
class Contents:
    """The arrays of one image.

    Attributes:
        own: Of this image.
        shared: The same for all images.
        coordinates: Names of the places along dimensions.
        label: Number of the class whose drop is kept; None where there are no classes.
    """

    own: Named
    shared: Named
    coordinates: Mapping[str, Sequence[Any]]
    label: int | None


def contents(found: OcclusionMap | OcclusionFills, target: int | None, keep: str, reduced: bool) -> Contents:
    """Of the sweep of one image.

    Args:
        found: The sweep.
        target: The class whose drop is kept; None: the image's own.
        keep: "maps" or "outputs".
        reduced: The outputs are those of a reducer.
    """
    if isinstance(found, OcclusionMap):
        return _contents(found, target, keep, reduced)
    each = [_contents(one, target, keep, reduced) for one in found.maps]
    first = each[0]
    own = {
        name: (dims, array) if name in ALIKE else (("fill", *dims), np.stack([one.own[name][1] for one in each]))
        for name, (dims, array) in first.own.items()
    }
    return Contents(own, first.shared, {**first.coordinates, "fill": list(found.names)}, first.label)


def _contents(found: OcclusionMap, target: int | None, keep: str, reduced: bool) -> Contents:
    places = ("row", "column") if found.positions.dim() == 3 else ("place",)
    own: dict[str, tuple[tuple[str, ...], Tensor]] = {}
    shared: dict[str, tuple[tuple[str, ...], Tensor]] = {"positions": ((*places, "corner"), found.positions)}
    if found.boxes is not None:
        shared["boxes"] = (("place", "box"), found.boxes)
    label = None
    if reduced:
        axes = tuple(f"output axis {n}" for n in range(found.outputs.dim() - 1 - len(places)))
        clean = found.clean[0][(None,) * len(places)]
        own = {
            "outputs": ((*places, *axes), found.outputs[0]),
            "clean": (axes, found.clean[0]),
            EFFECT: ((*places, *axes), clean - found.outputs[0]),
        }
    elif isinstance(found.clean, Tensor):
        classes = found.own_classes() if target is None else torch.tensor([target], device=found.clean.device)
        label = int(classes[0])
        what, values = found.shown_values(classes)
        own = {
            "class": ((), classes[0]),
            EFFECT: (places, found.drop(classes)[0]),
            what: (places, values[0]),
            "best_class": (places, found.best_class()[0]),
        }
        known = found.variables()
        own["clean"] = (known["clean"][0][1:], known["clean"][1][0])
        if keep == "outputs":
            own["outputs"] = (known["outputs"][0][1:], known["outputs"][1][0])
    if found.activity is not None and found.channel is not None and found.clean_activity is not None:
        single = found.strongest_activity is not None
        unit = () if single else ("unit",)
        clean, values = found.clean_activity[0], found.activity[0]
        own["activity"], own["clean_activity"] = ((*places, *unit), values), (unit, clean)
        if single:
            own["channel"] = ((), found.channel[0])
        else:
            shared["channel"] = (unit, found.channel)
        if EFFECT not in own:
            own[EFFECT] = ((*places, *unit), clean - values)
    coordinates = {name: list(values) for name, values in found.coordinates().items()}
    return Contents(_arrays(own), _arrays(shared), coordinates, label)


def _arrays(tensors: Mapping[str, tuple[tuple[str, ...], Tensor]]) -> Named:
    return {name: (dims, np.array(as_array(tensor), order="C")) for name, (dims, tensor) in tensors.items()}

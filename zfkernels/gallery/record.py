"""gallery.json: what was looked at, with what, and what was left out."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from zfkernels.analysis.topk import Ranking
from zfkernels.data import ImageSource
from zfkernels.gallery.layers import Layer
from zfkernels.gallery.prepare import Prepared
from zfkernels.gallery.sweep import Swept
from zfkernels.gallery.table import Winners
from zfkernels.geometry import Pair
from zfkernels.models import versions, weights_hash
from zfkernels.network.network import Network


def run_record(
    network: Network,
    source: ImageSource,
    layers: Sequence[Layer],
    preprocess: Prepared,
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """What must stay the same when a run is taken up again: model, weights, data, options and versions."""
    model = network.model
    steps = "\n".join(f"{network.labels[kind.name]} {kind.kind} {kind.inputs}" for kind in network.kinds.values())
    parameter = next(model.parameters(), torch.empty(0))
    return {
        "model": {
            "class": f"{type(model).__module__}.{type(model).__qualname__}",
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "weights_sha256": weights_hash(model),
            "steps_sha256": hashlib.sha256(steps.encode()).hexdigest(),
            "dtype": str(parameter.dtype),
            "device": parameter.device.type,
        },
        "data": {"name": source.name, "images": source.count, "sha256": source.digest()},
        "options": {"layers": [layer.name for layer in layers], "preprocess": preprocess.record(), **options},
        "versions": versions(),
    }


def data_record(source: ImageSource, swept: Swept) -> dict[str, Any]:
    """Where the images came from, how many were used, and each that was not, with the reason."""
    return {
        "name": source.name,
        "images": swept.images,
        "skipped": [{"image": key, "reason": reason} for key, reason in left_out(source, swept)],
    }


def left_out(source: ImageSource, swept: Swept) -> list[tuple[str, str]]:
    """(key, reason) of everything that was not used."""
    return sorted([*((source.keys[image_id], reason) for image_id, reason in swept.skipped), *source.ignored])


def peak_memory() -> int:
    """Bytes of the largest process so far, this one or a worker of it."""
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return unit * max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def layer_record(layer: Layer, found: Winners, ranking: Ranking, tile: Pair) -> dict[str, Any]:
    """What gallery.json says of a layer; ``tile`` is the height and width of its tiles."""
    info = layer.info
    return {
        "name": layer.name,
        "kind": info.kind,
        "maps": info.channels,
        "size": info.size,
        "stride": info.stride,
        "receptive_field": layer.field,
        "rectified": layer.rectified,
        "filters": layer.filters,
        "tile": tile,
        "dead": found.dead,
        "only_nan": found.only_nan(info.channels),
        "nan_activations": {str(n): int(ranking.nans[n]) for n in ranking.nans.nonzero()[:, 0].tolist()},
    }


def describe(source: ImageSource, swept: Swept, layers: Sequence[Layer], top_k: int) -> list[str]:
    """The run in a few words, for people."""
    maps = sum(layer.info.channels for layer in layers)
    facts = [
        f"{swept.images:,} images from {source.name}",
        f"{maps:,} maps in {len(layers)} {'layer' if len(layers) == 1 else 'layers'}",
        f"top {top_k}, each from another image",
    ]
    left_out = len(swept.skipped) + len(source.ignored)
    if left_out:
        facts.append(f"{left_out:,} {'file' if left_out == 1 else 'files'} left out (gallery.json says why)")
    return facts

"""gallery.json: what was looked at, with what, and what was left out."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

import zfkernels
from zfkernels.data import ImageSource
from zfkernels.gallery.layers import Layer
from zfkernels.gallery.sweep import Swept
from zfkernels.gallery.table import Winners
from zfkernels.methods.topk import Ranking


def weights_hash(model: nn.Module) -> str:
    """SHA-256 of the names, dtypes, shapes and bytes of all parameters and buffers."""
    digest = hashlib.sha256()
    for key, value in model.state_dict().items():
        if isinstance(value, Tensor):
            digest.update(f"{key} {value.dtype} {tuple(value.shape)}\n".encode())
            digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def model_record(model: nn.Module) -> dict[str, Any]:
    return {
        "class": f"{type(model).__module__}.{type(model).__qualname__}",
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "weights_sha256": weights_hash(model),
    }


def data_record(source: ImageSource, swept: Swept) -> dict[str, Any]:
    """Where the images came from, how many were used, and each that was not, with the reason."""
    skipped = [(source.keys[image_id], reason) for image_id, reason in swept.skipped]
    return {
        "name": source.name,
        "images": swept.images,
        "skipped": [{"image": key, "reason": reason} for key, reason in sorted([*skipped, *source.ignored])],
    }


def layer_record(layer: Layer, found: Winners, ranking: Ranking) -> dict[str, Any]:
    info = layer.info
    return {
        "name": layer.name,
        "kind": info.kind,
        "maps": info.channels,
        "size": info.size,
        "stride": info.stride,
        "receptive_field": layer.field,
        "rectified": layer.rectified,
        "dead": found.dead,
        "nan_activations": {str(n): int(ranking.nans[n]) for n in ranking.nans.nonzero()[:, 0].tolist()},
    }


def versions() -> dict[str, str]:
    return {"zfkernels": zfkernels.__version__, "torch": torch.__version__, "python": platform.python_version()}


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

"""States of a run that was cut off at one of its stages."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from small import OPTIONS, small_network
from torch import nn

from zfkernels.analysis.topk import TopK
from zfkernels.gallery import build_gallery, checkpoint, draw, run

STATE = Path(".zfkernels", "state")


class Cut(RuntimeError):
    pass


def cut_off(owner: Any, name: str, calls: int, photos: Path, out: Path, network: nn.Module | None = None) -> None:
    """Builds a gallery until something has been called so often; a checkpoint is written after each batch."""
    original, left = getattr(owner, name), calls

    def cutting(*arguments: Any, **options: Any) -> Any:
        nonlocal left
        left -= 1
        if left == 0:
            raise Cut
        return original(*arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "SECONDS", 0)
        patch.setattr(owner, name, cutting)
        with pytest.raises(Cut):
            build_gallery(network or small_network(), photos, out=out, **{**OPTIONS, "batch_size": 4})


STAGES = {
    "first pass": (TopK, "update", 8),
    "second pass": (draw.Studio, "draw", 1),
    "writing": (run, "write_page", 1),
    "publishing": (os, "rename", 3),
}


def build(photos: Path, out: Path, **options: Any) -> Any:
    return build_gallery(small_network(), photos, out=out, **{**OPTIONS, "batch_size": 4, **options})

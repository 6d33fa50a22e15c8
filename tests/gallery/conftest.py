"""The photos and the gallery that these tests share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small import OPTIONS, small_network

from zfkernels.gallery import Gallery, build_gallery


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """13 pictures in folders, two of them alike (ties), one broken, one file that is none."""
    root = tmp_path_factory.mktemp("photos")
    generator = np.random.default_rng(0)
    for n in range(13):
        path = root / ("cats" if n % 2 else "dogs") / f"{n:02d}.png"
        path.parent.mkdir(exist_ok=True)
        blocks = generator.integers(0, 256, (5, 5, 3), dtype=np.uint8).repeat(5, 0).repeat(5, 1)
        Image.fromarray(blocks).save(path)
    (root / "dogs" / "04.png").write_bytes((root / "dogs" / "00.png").read_bytes())
    (root / "cats" / "bad.jpg").write_bytes(b"no picture")
    (root / "notes.txt").write_text("no picture either")
    return root


@pytest.fixture(scope="session")
def gallery(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Gallery:
    return build_gallery(small_network(), photos, out=tmp_path_factory.mktemp("gallery") / "out", **OPTIONS)

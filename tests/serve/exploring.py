"""A small network with classes, photos of blocks, and a server of them."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from zfkernels.data import open_source
from zfkernels.models import Preprocess
from zfkernels.serve import Explorer
from zfkernels.serve.network import Network
from zfkernels.serve.photos import Photos

SIZE = 32
SMALL = Preprocess(size=SIZE, resize=SIZE)
NAMES = ("cat", "dog", "<img src=x onerror=alert(1)>")
EVIL = "<script>alert(1)<"
LAYER = "4"  # 6 maps of 16 by 16


def classifier() -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 5, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(5, 6, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, len(NAMES)),
    )  # fmt: skip
    model.class_names = NAMES
    return model.eval()


def blocks(seed: int, side: int = 40) -> Image.Image:
    generator = np.random.default_rng(seed)
    return Image.fromarray(
        generator.integers(0, 256, (side // 5, side // 5, 3), dtype=np.uint8).repeat(5, 0).repeat(5, 1)
    )


def as_file(picture: Image.Image, kind: str = "PNG") -> bytes:
    file = BytesIO()
    picture.save(file, kind)
    return file.getvalue()


def folder_of_photos(folder: Path, count: int = 4) -> Path:
    folder.mkdir()
    for n in range(count):
        blocks(n).save(folder / f"{EVIL}{n}.png")
    (folder / "broken.png").write_bytes(as_file(blocks(9))[:60])
    return folder


def explorer_of(model: nn.Module) -> Explorer:
    return Explorer(Network(model, SMALL, EVIL))


def photos_of(folder: Path) -> Photos:
    return Photos(SMALL, open_source(folder))


@contextlib.contextmanager
def running(explorer: Explorer, photos: Photos, **options: Any) -> Iterator[str]:
    """A real server in a thread; its address."""
    import uvicorn

    from zfkernels.serve.app import create_app
    from zfkernels.serve.run import bind

    with bind("127.0.0.1", 0) as listening:
        port = listening.getsockname()[1]
        app = create_app(explorer, photos, port=port, **options)
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{port}"
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()

"""Pictures, and the folders and archives that hold them, which tests of sources share."""

from __future__ import annotations

import tarfile
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image

KEYS = ["a/1.png", "a/10.png", "b/2.png", "c/d/3.png", "top.png"]


def picture(width: int = 12, height: int = 10, seed: int = 0, mode: str = "RGB") -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def make_folder(root: Path) -> Path:
    """Pictures in folders, with what a folder holds beside pictures."""
    for n, name in enumerate(["b/2.png", "a/1.png", "top.png", "a/10.png", "c/d/3.png"]):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(picture(seed=n)))
    (root / "notes.txt").write_text("no picture")
    (root / ".hidden.png").write_bytes(b"x")
    (root / "__MACOSX").mkdir()
    (root / "__MACOSX" / "x.png").write_bytes(b"x")
    return root


def make_classes(root: Path, train: int, val: int, height: int, width: int) -> Path:
    """Three classes of noise, each around a colour of its own: so many pictures of each to train and to validate."""
    generator = torch.Generator().manual_seed(1)
    for split, count in (("train", train), ("val", val)):
        for label in range(3):
            folder = root / split / f"class{label}"
            folder.mkdir(parents=True)
            for index in range(count):
                pixels = torch.randint(0, 120, (height, width, 3), generator=generator)
                pixels[:, :, label] += 120
                Image.fromarray(pixels.to(torch.uint8).numpy()).save(folder / f"{index}.png")
    return root


def archived(folder: Path, kind: str) -> Path:
    """An archive of the folder whose members are not in sorted order."""
    path = folder.parent / f"photos.{kind}"
    members = sorted((p for p in folder.rglob("*") if p.is_file()), reverse=True)
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for member in members:
                archive.write(member, member.relative_to(folder))
    else:
        with tarfile.open(path, f"w:{kind[4:]}" if kind != "tar" else "w") as archive:
            for member in members:
                archive.add(member, str(member.relative_to(folder)))
    return path

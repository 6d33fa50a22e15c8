"""The winning images as the page shows them, one file each."""

from __future__ import annotations

import zlib
from io import BytesIO
from pathlib import Path

import torch
from torch import Tensor

from zfkernels.gallery.page import image_path
from zfkernels.output.files import flush_file, flush_folder
from zfkernels.viz import as_picture

QUALITY = 80


class Pictures:
    """Image files in a folder, and the CRC-32 of each.

    Attributes:
        folder: Takes the files, at the paths that the page names.
        checks: The CRC-32 of each file, by image id.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.checks: dict[int, int] = {}
        self._unflushed: list[Path] = []

    def put(self, image_id: int, pixels: Tensor) -> None:
        """Writes an image, uint8 [3, H, W]."""
        path, file = self.folder / image_path(image_id), BytesIO()
        as_picture(pixels).convert("RGB").save(file, "WEBP", quality=QUALITY)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.getvalue())
        self.checks[image_id] = zlib.crc32(file.getvalue())
        self._unflushed.append(path)

    def flush(self) -> None:
        """Makes sure that what was put is on the disk."""
        for path in self._unflushed:
            flush_file(path)
        for folder in sorted({folder for path in self._unflushed for folder in path.parents}, reverse=True):
            if self.folder in (folder, *folder.parents):
                flush_folder(folder)
        self._unflushed.clear()

    def tensors(self) -> dict[str, Tensor]:
        """What is known of the files, to be saved: int64 ``images.ids`` [N] and ``images.checks`` [N]."""
        return {
            "images.ids": torch.tensor(list(self.checks), dtype=torch.int64),
            "images.checks": torch.tensor(list(self.checks.values()), dtype=torch.int64),
        }

    def add(self, tensors: dict[str, Tensor]) -> None:
        """Takes in what was saved."""
        if tensors:
            self.checks |= zip(tensors["images.ids"].tolist(), tensors["images.checks"].tolist(), strict=True)

    def are_whole(self) -> bool:
        """Whether all files hold what was put."""
        return all(self._check(image_id) == check for image_id, check in self.checks.items())

    def _check(self, image_id: int) -> int | None:
        try:
            return zlib.crc32((self.folder / image_path(image_id)).read_bytes())
        except FileNotFoundError:
            return None

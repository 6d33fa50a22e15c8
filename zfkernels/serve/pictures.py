"""Tensors as PNG: photos, maps as heat, projections on grey."""

from __future__ import annotations

import math
from io import BytesIO
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from zfkernels._extras import require
from zfkernels.viz import heat_tiles, stretch_projections

if TYPE_CHECKING:
    from PIL.Image import Image

THUMBNAIL = 56  # cells of a map's thumbnail along a side, at most
LARGE = 512  # pixels of a map that is shown by itself
GREY = 127


def png(pixels: Tensor) -> bytes:
    """A picture uint8 [3, h, w] as a PNG file."""
    return _file(_picture(pixels))


def thumbnails(maps: Tensor) -> tuple[Tensor, tuple[int, int], int]:
    """Maps [C, h, w] as heat in one picture: a grid by channel, row by row, each scaled by its own maximum.

    Returns:
        uint8 [3, H, W]; height and width of a tile; tiles in a row.
    """
    height, width = maps.shape[1:]
    scale = min(1, THUMBNAIL / max(height, width))
    size = max(1, round(height * scale)), max(1, round(width * scale))
    small = maps.float() if size == (height, width) else F.adaptive_max_pool2d(maps.float(), size)
    side = math.ceil(math.sqrt(len(maps)))
    rows = math.ceil(len(maps) / side)
    tiles = F.pad(heat_tiles(small, size), (0, 0, 0, 0, 0, 0, 0, rows * side - len(maps)))
    grid = tiles.view(rows, side, 3, *size).permute(2, 0, 3, 1, 4).reshape(3, rows * size[0], side * size[1])
    return grid, size, side


def heat(values: Tensor) -> Tensor:
    """One map [h, w] as heat, uint8 [3, H, W], each cell a square of pixels."""
    scale = max(1, LARGE // max(values.shape))
    size = values.shape[0] * scale, values.shape[1] * scale
    return heat_tiles(values[None].float(), size)[0]


def projection(
    pixels: Tensor,  # [3, H, W]
    field: tuple[int, int, int, int],
) -> Tensor:  # uint8 [3, H, W]
    """A projection in its image's frame: grey is zero; stretched by what lies in the receptive field."""
    top, left, bottom, right = field
    shown = torch.full(pixels.shape, GREY, dtype=torch.uint8)
    if bottom > top and right > left:
        part = pixels[None, :, top:bottom, left:right].float().cpu()
        shown[:, top:bottom, left:right] = stretch_projections(part)[0]
    return shown


def preview(pixels: Tensor, side: int) -> bytes:
    """The same, made small: at most ``side`` pixels each way."""
    picture = _picture(pixels)
    picture.thumbnail((side, side))
    return _file(picture)


def _picture(pixels: Tensor) -> Image:
    image = require("PIL.Image", "viz")
    return image.fromarray(pixels.permute(1, 2, 0).contiguous().cpu().numpy())


def _file(picture: Image) -> bytes:
    file = BytesIO()
    picture.save(file, "PNG", compress_level=1)  # it goes no further than to the page
    return file.getvalue()

"""Crops of image batches."""

from __future__ import annotations

import torch
from torch import Tensor


def center_crop(
    images: Tensor,  # [N, C, H, W]
    size: int,
) -> Tensor:  # [N, C, size, size]
    """The centre of each image."""
    top, left = (images.shape[2] - size) // 2, (images.shape[3] - size) // 2
    return images[:, :, top : top + size, left : left + size]


def ten_crop(
    images: Tensor,  # [N, C, H, W]
    size: int,
) -> Tensor:  # [N, 10, C, size, size]
    """The four corners and the centre of each image, then the same mirrored.

    Source: Zeiler & Fergus 2013 (arXiv 1311.2901), section 3.
    """
    down, right = images.shape[2] - size, images.shape[3] - size
    places = [(0, 0), (0, right), (down, 0), (down, right), (down // 2, right // 2)]
    crops = torch.stack([images[:, :, y : y + size, x : x + size] for y, x in places], dim=1)
    return torch.cat([crops, crops.flip(-1)], dim=1)


def random_crop(
    images: Tensor,  # [N, C, H, W]
    size: int,
    padding: int = 0,
) -> Tensor:  # [N, C, size, size], channels_last
    """A crop at a random place of each zero-padded image, mirrored with probability 1/2."""
    count, _, height, width = images.shape
    device = images.device
    padded = torch.nn.functional.pad(images, [padding] * 4).permute(0, 2, 3, 1)  # [N, H, W, C]
    offsets = torch.arange(size, device=device)
    rows = torch.randint(height + 2 * padding - size + 1, (count, 1), device=device) + offsets  # [N, size]
    columns = torch.randint(width + 2 * padding - size + 1, (count, 1), device=device) + offsets
    columns = torch.where(torch.rand(count, 1, device=device) < 0.5, columns, columns.flip(1))
    image = torch.arange(count, device=device)
    return padded[image[:, None, None], rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)

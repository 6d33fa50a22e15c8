"""The empirical receptive field of a map: where hiding a part of its strongest images lowers it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from zfkernels.geometry import Pair
from zfkernels.occlusion.api import occlusion_sweep
from zfkernels.signed import signed


@signed("empirical_receptive_field")
def empirical_receptive_field(
    model: nn.Module,
    images: Tensor,  # [N, C, H, W]
    layer: str,
    units: int | Sequence[int] | None = None,
    *,
    window: int | Pair = 11,
    stride: int | Pair = 3,
    fill: Any = 0.0,
    **options: Any,
) -> Tensor:  # [U, rows, cols]
    """By how much of itself a map's strongest value falls while a square hides each part of the image.

    The mean over the images of (clean - occluded) / clean, at the place where the map is largest on the clean image;
    images in which it is nowhere above 0 do not count. Source: Zhou, Khosla, Lapedriza, Oliva & Torralba 2015 (arXiv
    1412.6856), section 3.2. Differs from it: the maps are not moved to a common centre before they are averaged.

    Args:
        model: an nn.Module in eval mode that can be recorded.
        images: [N, C, H, W], those that excite the maps most.
        layer: of the maps.
        units: the maps; None: all.
        window: (height, width) of the square, in pixels; 11 and a stride of 3 are the source's.
        stride: of the grid, in pixels.
        fill: as of :func:`zfkernels.occlusion_sweep`; one fill.
        options: further arguments of :func:`zfkernels.occlusion_sweep`.

    Returns:
        [U, rows, cols]: 1 where hiding takes all of the value away, below 0 where it raises it; NaN for a map that no
        image excites.

    Raises:
        TypeError, ValueError: as of :func:`zfkernels.occlusion_sweep`.
    """
    found = occlusion_sweep(
        model, images, window=window, stride=stride, fill=fill, layer=layer, units="all" if units is None else units,
        statistic="value", outputs=False, **options,
    )  # fmt: skip
    clean = found.clean_activity[:, None, None]  # [N, 1, 1, U]
    share = torch.where(clean > 0, (clean - found.activity) / clean, 0.0).sum(0)
    return (share / (clean > 0).sum(0)).permute(2, 0, 1)

"""Occlusion by brute force: every occluded image is made, and the whole network runs on it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from zfkernels.geometry import Pair
from zfkernels.results import OcclusionMap


def everywhere(size: Pair, window: Pair) -> Tensor:
    """Positions int64 [8, 2]: corners, squares clipped by each border and by both, and some in the middle."""
    (height, width), (h, w) = size, window
    return torch.tensor(
        [
            [0, 0],
            [0, width - w // 2 - 1],
            [height - h // 2 - 1, 1],
            [height - 1, width - 1],
            [height - h, width - w],
            [height // 2, width // 2],
            [height // 3, 2 * width // 3],
            [2 * height // 3 + 1, width // 4],
        ]
    )


def occluded(images: Tensor, positions: Tensor, window: Pair, fill: float | Tensor) -> Tensor:
    """[N, P, C, H, W]: the images with a square at each position."""
    fill = torch.as_tensor(fill, dtype=images.dtype)
    shown = (fill if fill.dim() == 4 else fill.reshape(-1, 1, 1)).expand_as(images)
    copies = images[:, None].repeat(1, len(positions), 1, 1, 1)
    for p, (top, left) in enumerate(positions.tolist()):
        square = (..., slice(top, top + window[0]), slice(left, left + window[1]))
        copies[:, p][square] = shown[square]
    return copies


@torch.no_grad()
def dense_outputs(
    model: Callable[[Tensor], Tensor], images: Tensor, positions: Tensor, window: Pair, fill: float | Tensor
) -> tuple[Tensor, Tensor]:
    """Outputs [N, P, classes] on the occluded images, and [N, classes] on the clean ones."""
    squares = occluded(images, positions, window, fill).flatten(0, 1)
    outputs = torch.cat([model(part.clone()) for part in squares.split(8)])
    return outputs.unflatten(0, (len(images), len(positions))), model(images.clone())


def assert_exact(found: OcclusionMap, outputs: Tensor, clean: Tensor, rtol: float = 1e-8) -> None:
    """Within ``rtol`` of what hiding does to each image, which must be something."""
    assert found.outputs.shape == outputs.shape
    effect = (outputs.flatten(1, -2) - clean[:, None]).abs().amax((1, 2))
    assert (effect > 1e-5 * clean.abs().amax(1)).all()
    error = (found.outputs - outputs).flatten(1).abs().amax(1)
    assert (error <= rtol * effect).all(), error / effect
    assert ((found.clean - clean).abs().amax(1) <= rtol * effect).all()

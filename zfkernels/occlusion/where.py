"""Where the changes lie: a grid of squares, positions, windows each of its own size, or regions of any shape."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from zfkernels.checks import is_int_tensor
from zfkernels.geometry import Pair
from zfkernels.occlusion.arguments import NAME, grid, to_pair


@dataclass(frozen=True)
class Changes:
    """What is hidden of an image, one at a time.

    Attributes:
        boxes: int64 [..., 4] (top, left, height, width); they may reach over the borders.
        window: (height, width) of the largest.
        mask: bool [h, w], what of each box is hidden; None: all.
        labels: int64 [H, W], of regions.
        label: int64 [P], which of them each change is.
    """

    boxes: Tensor
    window: Pair
    mask: Tensor | None = None
    labels: Tensor | None = None
    label: Tensor | None = None


class Where:
    """The changes that a sweep makes, as its arguments say; see ``occlusion_sweep`` for these."""

    def __init__(
        self,
        window: int | Pair | None = None,
        stride: int | Pair | None = None,
        positions: Tensor | None = None,
        windows: Tensor | None = None,
        regions: Tensor | None = None,
        shape: str | Tensor = "square",
    ) -> None:
        given = {"window": window, "windows": windows, "regions": regions}
        named = [name for name, value in given.items() if value is not None]
        if len(named) != 1:
            raise ValueError(
                f"{NAME}: expected one of window, windows and regions, got {' and '.join(named) or 'none'}"
            )
        if positions is not None and stride is not None:
            raise ValueError(f"{NAME}: expected stride or positions, got both")
        if window is None and (positions is not None or stride is not None):
            raise ValueError(f"{NAME}: expected stride or positions with window alone, got them with {named[0]}")
        self.window = None if window is None else to_pair(NAME, "window", window)
        self.stride = self.window if stride is None else to_pair(NAME, "stride", stride)
        self.positions = positions
        self.windows = None if windows is None else _boxes(windows)
        self.regions = None if regions is None else _regions(regions)
        self.mask = self._shape(shape)

    @property
    def is_of_each(self) -> bool:
        """Whether each image has changes of its own."""
        return self.regions is not None and self.regions.dim() == 3

    def at(self, size: Pair, image: int = 0) -> Changes:
        """The changes of images of a size; ``image``: of which one, where each has its own."""
        if self.regions is not None:
            return self._at_regions(size, image)
        if self.windows is not None:
            _inside("windows", self.windows, size)
            height, width = self.windows[:, 2:].amax(0).tolist()
            return Changes(self.windows, (height, width), self.mask)
        assert self.window is not None
        assert self.stride is not None
        if self.positions is None:
            if self.window[0] > size[0] or self.window[1] > size[1]:
                raise ValueError(f"{NAME}: expected window no larger than the images {size}, got {self.window}")
            places = grid(size, self.window, self.stride)
        else:
            places = _positions(self.positions)
            _inside("positions", torch.cat([places, torch.tensor(self.window).expand_as(places)], -1), size)
        boxes = torch.cat([places, torch.tensor(self.window).expand_as(places)], -1)
        return Changes(boxes, self.window, self.mask)

    def _at_regions(self, size: Pair, image: int) -> Changes:
        assert self.regions is not None
        if tuple(self.regions.shape[-2:]) != size:
            raise ValueError(
                f"{NAME}: expected regions of the images' size {size}, got {tuple(self.regions.shape[-2:])}"
            )
        label = self.regions.unique()
        labels = self.regions[image] if self.is_of_each else self.regions
        there = labels == label[:, None, None]  # [P, H, W]
        boxes = []
        for other in (2, 1):
            hit = there.any(other)
            first = hit.to(torch.uint8).argmax(1)
            last = hit.shape[1] - hit.flip(1).to(torch.uint8).argmax(1)
            boxes.append((first, torch.where(hit.any(1), last - first, 0)))
        flat = torch.stack([boxes[0][0], boxes[1][0], boxes[0][1], boxes[1][1]], 1)
        height, width = flat[:, 2:].amax(0).tolist()
        return Changes(flat, (height, width), None, labels, label)

    def _shape(self, shape: Any) -> Tensor | None:
        if isinstance(shape, str) and shape == "square":
            return None
        if self.window is None:
            raise ValueError(f"{NAME}: expected shape with window alone, got it with windows or regions")
        if isinstance(shape, str) and shape == "disc":
            return disc(self.window)
        if not isinstance(shape, Tensor) or shape.dtype != torch.bool:
            got = shape.dtype if isinstance(shape, Tensor) else repr(shape)
            raise TypeError(f"{NAME}: expected shape 'square', 'disc' or a bool tensor [h, w], got {got}")
        if tuple(shape.shape) != self.window:
            raise ValueError(f"{NAME}: expected shape of the window's size {self.window}, got {tuple(shape.shape)}")
        return shape.cpu()


def disc(window: Pair) -> Tensor:
    """bool [h, w]: the cells whose centres lie in the ellipse that fills the window."""
    parts = [(torch.arange(side) + 0.5 - side / 2) / (side / 2) for side in window]
    return parts[0][:, None] ** 2 + parts[1] ** 2 <= 1


def _positions(positions: Any) -> Tensor:
    if not is_int_tensor(positions):
        got = positions.dtype if isinstance(positions, Tensor) else type(positions).__name__
        raise TypeError(f"{NAME}: expected positions an int tensor [P, 2], got {got}")
    if positions.dim() != 2 or positions.shape[1] != 2 or len(positions) == 0:
        raise ValueError(f"{NAME}: expected positions of shape [P, 2], at least one, got {tuple(positions.shape)}")
    return positions.to("cpu", torch.int64)


def _boxes(windows: Any) -> Tensor:
    if not is_int_tensor(windows):
        got = windows.dtype if isinstance(windows, Tensor) else type(windows).__name__
        raise TypeError(f"{NAME}: expected windows an int tensor [P, 4], got {got}")
    if windows.dim() != 2 or windows.shape[1] != 4 or len(windows) == 0:
        raise ValueError(f"{NAME}: expected windows of shape [P, 4], at least one, got {tuple(windows.shape)}")
    return windows.to("cpu", torch.int64)


def _regions(regions: Any) -> Tensor:
    if not is_int_tensor(regions):
        got = regions.dtype if isinstance(regions, Tensor) else type(regions).__name__
        raise TypeError(f"{NAME}: expected regions an int tensor [H, W] or [N, H, W], got {got}")
    if regions.dim() not in (2, 3) or not regions.numel():
        raise ValueError(f"{NAME}: expected regions of shape [H, W] or [N, H, W], got {tuple(regions.shape)}")
    return regions.to("cpu", torch.int64)


def _inside(argument: str, boxes: Tensor, size: Pair) -> None:
    """Every box holds a pixel of the image."""
    first, last = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    outside = (first >= torch.tensor(size)) | (last <= 0) | (boxes[:, 2:] < 1)
    if bool(outside.any()):
        raise ValueError(f"{NAME}: expected {argument} inside the images {size}, got some outside")

"""Reducers: from map-shaped outputs to a few numbers for each position, on windows as long as there are any.

``occlusion_sweep(..., reduce=...)`` takes any callable ``(outputs, image, clean) -> tensor [K, ...]``: a chunk's
outputs (of the form of the model's own, [K, ...] each), int64 [K], which image each is of, and the clean outputs. Those
made here look at each cell by itself and then at the whole frame, so that only the cells that a square can change are
computed anew; the frames of the positions are never made.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor

from zfkernels.network.kinds.image import as_pixels
from zfkernels.network.tree import leaves
from zfkernels.ops import window_reduce
from zfkernels.windows import Windows, cell_places


class MapReducer(ABC):
    """A function of each cell, a sum or maximum over the frame, and a function of that.

    Args:
        output: of outputs in a dictionary, tuple or object, the key, place or name of the one that is reduced; None:
            the first tensor.
    """

    how = "sum"

    def __init__(self, output: str | int | None = None) -> None:
        self.output = output

    @abstractmethod
    def per_cell(self, cells: Tensor, context: Tensor | None) -> Tensor:
        """[M, E] of cells [M, C] and what belongs to each of them, [M, D]."""

    def context(self, clean: Tensor) -> Tensor | None:
        """What belongs to each cell, [1 or N, D, H, W], for clean maps [N, C, H, W]."""
        return None

    def finish(self, total: Tensor, context: Tensor | None, image: Tensor) -> Tensor:
        """[K, ...] of the sums or maxima [K, E] over the frames; ``context`` is summed over the frame, [1 or N, D]."""
        return total

    def pick(self, outputs: Any) -> Any:
        """The part of outputs (or of what stands for them) that is reduced.

        Raises:
            ValueError: there is no such part.
        """
        if self.output is None:
            return next(iter(leaves(outputs)))
        try:
            if isinstance(self.output, str) and not isinstance(outputs, dict):
                return getattr(outputs, self.output)
            return outputs[self.output]
        except (KeyError, IndexError, AttributeError, TypeError) as error:
            raise ValueError(
                f"{self}: expected output a part of what the model returns, got {self.output!r}"
            ) from error

    def __call__(self, outputs: Any, image: Tensor, clean: Any) -> Tensor:
        return Reduction(self, self.pick(clean)).whole(self.pick(outputs), image)

    def __str__(self) -> str:
        return type(self).__name__


class Reduction:
    """A reducer with clean maps [N, C, H, W], for all chunks of a sweep."""

    def __init__(self, reducer: MapReducer, clean: Tensor) -> None:
        if clean.dim() != 4:
            raise ValueError(f"{reducer}: expected a model that returns maps [N, C, H, W], got {tuple(clean.shape)}")
        self.reducer = reducer
        context = reducer.context(clean)
        self.total = None if context is None else context.flatten(2).sum(2)
        self.beside = None if context is None else as_pixels(context)
        self.shared = context is not None and len(context) == 1
        self.frame = (clean.shape[2], clean.shape[3])
        self.clean = self._frames(clean, torch.arange(len(clean), device=clean.device))

    def whole(self, maps: Tensor, image: Tensor) -> Tensor:
        """[K, ...] of whole maps [K, C, H, W] of ``image`` int64 [K]."""
        cells = self._frames(maps, image).flatten(2)
        total = cells.sum(2) if self.reducer.how == "sum" else cells.amax(2)
        return self.reducer.finish(total, self.total, image)

    def windows(self, windows: Windows, backend: str | None) -> Tensor:
        """[K, ...] of K windows of the maps."""
        layout = windows.layout
        image = layout.image.index_select(0, layout.owner)
        context = self._beside(image, *cell_places(layout.boxes, layout.offsets, layout.owner))
        cells = layout.windows(self.reducer.per_cell(windows.values, context))
        total = window_reduce(cells, self.clean, self.reducer.how, backend=backend)
        return self.reducer.finish(total, self.total, windows.image)

    def _frames(self, maps: Tensor, image: Tensor) -> Tensor:
        """``per_cell`` of whole maps [K, C, H, W], as maps [K, E, H, W]."""
        height, width = self.frame
        at = torch.arange(height * width, device=maps.device).repeat(len(maps))
        of = image.repeat_interleave(height * width, output_size=len(at))
        context = self._beside(of, at // width, at % width)
        cells = self.reducer.per_cell(as_pixels(maps), context)
        return cells.view(len(maps), height, width, cells.shape[1]).permute(0, 3, 1, 2)

    def _beside(self, image: Tensor, rows: Tensor, columns: Tensor) -> Tensor | None:
        if self.beside is None:
            return None
        pixel = rows * self.frame[1] + columns
        if not self.shared:
            pixel = image * (self.frame[0] * self.frame[1]) + pixel
        return self.beside.index_select(0, pixel)


class region_mean(MapReducer):
    """[K, C]: the mean of each map over a region.

    Args:
        mask: bool or float [H, W], or one for each image [N, H, W], of the size of the output's maps; floats are
            weights.
        output: as :class:`MapReducer`'s.
    """

    def __init__(self, mask: Tensor, output: str | int | None = None) -> None:
        super().__init__(output)
        if not isinstance(mask, Tensor) or mask.dim() not in (2, 3):
            got = tuple(mask.shape) if isinstance(mask, Tensor) else type(mask).__name__
            raise ValueError(f"region_mean: expected mask a tensor [H, W] or [N, H, W], got {got}")
        self.mask = mask

    def context(self, clean: Tensor) -> Tensor:
        mask = (self.mask if self.mask.dim() == 3 else self.mask[None]).to(clean)[:, None]
        if mask.shape[2:] != clean.shape[2:] or len(mask) not in (1, len(clean)):
            raise ValueError(
                f"region_mean: expected mask of the output's size {tuple(clean.shape[2:])}, for one or {len(clean)} "
                f"images, got {tuple(self.mask.shape)}"
            )
        return mask

    def per_cell(self, cells: Tensor, context: Tensor | None) -> Tensor:
        assert context is not None
        return cells * context

    def finish(self, total: Tensor, context: Tensor | None, image: Tensor) -> Tensor:
        assert context is not None
        return total / (context if len(context) == 1 else context.index_select(0, image))


class class_area(MapReducer):
    """[K, C]: the number of cells that each class has, by the largest map; of one map alone, where it is above 0."""

    def per_cell(self, cells: Tensor, context: Tensor | None) -> Tensor:
        return _classes(cells)


class dice(MapReducer):
    """[K, C]: Dice's coefficient of each class's cells with a reference.

    2 |A and B| / (|A| + |B|), 1 where both are empty.

    Args:
        reference: int64 [H, W] or [N, H, W], the class of each cell (of one map alone: 1 where it is above 0); None:
            what the model says of the clean image.
        output: as :class:`MapReducer`'s.
    """

    def __init__(self, reference: Tensor | None = None, output: str | int | None = None) -> None:
        super().__init__(output)
        self.reference = reference

    def context(self, clean: Tensor) -> Tensor:
        if self.reference is None:
            found = _classes(as_pixels(clean)).view(len(clean), *clean.shape[2:], -1)
        else:
            given = self.reference if self.reference.dim() == 3 else self.reference[None]
            if given.shape[1:] != clean.shape[2:] or len(given) not in (1, len(clean)):
                raise ValueError(
                    f"dice: expected reference of the output's size {tuple(clean.shape[2:])}, for one or {len(clean)} "
                    f"images, got {tuple(self.reference.shape)}"
                )
            classes = torch.arange(clean.shape[1], device=clean.device)
            found = given.to(clean.device)[..., None] == (classes if len(classes) > 1 else classes + 1)
        return found.permute(0, 3, 1, 2).to(clean.dtype)

    def per_cell(self, cells: Tensor, context: Tensor | None) -> Tensor:
        assert context is not None
        found = _classes(cells)
        return torch.cat([found, found * context], 1)

    def finish(self, total: Tensor, context: Tensor | None, image: Tensor) -> Tensor:
        assert context is not None
        area, both = total.chunk(2, 1)
        other = context if len(context) == 1 else context.index_select(0, image)
        sizes = area + other
        return torch.where(sizes > 0, 2 * both / sizes.clamp(min=1), 1.0)


class largest_probability(MapReducer):
    """[K, 1]: the largest probability of any class at any cell, by a softmax over the maps (of one map: a sigmoid)."""

    how = "max"

    def per_cell(self, cells: Tensor, context: Tensor | None) -> Tensor:
        return cells.sigmoid() if cells.shape[1] == 1 else cells.softmax(1).amax(1, keepdim=True)


def _classes(cells: Tensor) -> Tensor:
    """[M, C] of 0 and 1: which class each cell is of."""
    if cells.shape[1] == 1:
        return (cells > 0).to(cells.dtype)
    return torch.zeros_like(cells).scatter_(1, cells.argmax(1, keepdim=True), 1.0)

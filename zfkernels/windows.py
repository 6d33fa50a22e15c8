"""Windows: crops of one layer, each of its own size, with all their cells in one tensor.

Window p is a box of the layer of image ``image[p]``. Its cells stand row by row in ``values[offsets[p] : offsets[p +
1]]``, all channels of a cell side by side. A box may be empty: then it has no cells.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from zfkernels.geometry import Boxes, Pair


@dataclass(frozen=True)
class Layout:
    """Where the cells of windows lie: all that is known before any value.

    :meth:`of` makes one and checks it. An op that takes a layout as ``out_boxes`` reads no tensor on the host.

    Attributes:
        boxes: int32 [P, 4]: top, left, height, width of each window, inside the frame.
        offsets: int64 [P + 1]: the first cell of each window, and at the end the number of cells.
        image: int64 [P]: the image of the batch that each window belongs to.
        frame: (H, W), the size of the whole layer.
        cells: the number of cells of all windows.
        owner: int32 [cells]: the window that each cell belongs to.
        images: how many images there have to be, known once boxes and images were checked; None: not checked.
    """

    boxes: Tensor
    offsets: Tensor
    image: Tensor
    frame: Pair
    cells: int
    owner: Tensor
    images: int | None = None

    @staticmethod
    def of(boxes: Tensor | Boxes, image: Tensor, frame: Pair) -> Layout:
        """The layout of windows in ``boxes``, checked; on a GPU this waits for the boxes.

        Args:
            boxes: int [P, 4] (top, left, height, width), or :class:`~zfkernels.geometry.Boxes`, inside the frame.
            image: int64 [P], the image that each window belongs to.
            frame: (H, W), the size of the layer.

        Raises:
            ValueError: shapes that do not fit, a box outside the frame, a negative image.
        """
        return layout_of("Layout.of", "boxes", boxes, image, frame)

    @staticmethod
    def whole(image: Tensor, frame: Pair) -> Layout:
        """Windows that are whole frames, one for each of ``image`` int64 [P]."""
        box = torch.tensor([0, 0, *frame], dtype=torch.int32, device=image.device)
        return Layout.of(box.expand(len(image), 4).contiguous(), image, frame)

    def __len__(self) -> int:
        return self.boxes.shape[0]

    def windows(self, values: Tensor) -> Windows:
        """Windows of this layout with ``values`` [cells, C]."""
        return Windows(values, self.boxes, self.offsets, self.image, self.frame, self.images)

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Layout:
        """The same layout with its tensors on ``device``."""
        boxes, offsets, image, owner = (
            tensor.to(device, non_blocking=non_blocking)
            for tensor in (self.boxes, self.offsets, self.image, self.owner)
        )
        return Layout(boxes, offsets, image, self.frame, self.cells, owner, self.images)


@dataclass(frozen=True)
class Windows:
    """P crops of one layer of a batch of images, each of its own size, inside its frame.

    Attributes:
        values: [cells, C]: the cells of all windows, row by row in each; the channels of a cell side by side.
        boxes: int32 [P, 4]: top, left, height, width of each window in the layer, inside the frame.
        offsets: int64 [P + 1]: the first cell of each window, and at the end the number of cells.
        image: int64 [P]: the image of the batch that each window belongs to.
        frame: (H, W), the size of the whole layer.
        images: how many images there have to be, known once boxes and images were checked; None: not checked.
    """

    values: Tensor
    boxes: Tensor
    offsets: Tensor
    image: Tensor
    frame: Pair
    images: int | None = None

    @staticmethod
    def of(crops: Tensor, origins: Tensor, image: Tensor, frame: Pair) -> Windows:
        """Windows of one size: ``crops`` [P, C, h, w] at ``origins`` int [P, 2] (row, column) inside the frame."""
        size = origins.new_tensor([crops.shape[2], crops.shape[3]]).expand(len(origins), 2)
        layout = Layout.of(torch.cat([origins, size], 1), image, frame)
        return layout.windows(crops.permute(0, 2, 3, 1).reshape(layout.cells, crops.shape[1]))

    @cached_property
    def layout(self) -> Layout:
        """Where the cells lie."""
        cells = self.values.shape[0]
        owner = owners(self.offsets, cells)
        return Layout(self.boxes, self.offsets, self.image, self.frame, cells, owner, self.images)

    def __len__(self) -> int:
        return self.boxes.shape[0]

    def __getitem__(self, p: int) -> Tensor:
        """Window ``p`` as a map [C, h, w]: a view of its cells."""
        if not -len(self) <= p < len(self):
            raise IndexError(f"Windows: expected an index below {len(self)}, got {p}")
        p %= len(self)
        first, last = self.offsets[p : p + 2].tolist()
        height, width = self.boxes[p, 2:].tolist()
        return self.values[first:last].view(height, width, self.values.shape[1]).permute(2, 0, 1)

    def paste(self, frames: Tensor | None = None) -> Tensor:
        """The whole layer for each window: [P, C, H, W], ``frames`` [N, C, H, W] (zeros if None) outside the window.

        Raises:
            ValueError: frames of other channels or another size, or, where :attr:`images` is known, too few of them.
        """
        count, channels = len(self), self.values.shape[1]
        if frames is None:
            whole = self.values.new_zeros(count * self.frame[0] * self.frame[1], channels)
        else:
            self._refuse(frames)
            whole = frames.permute(0, 2, 3, 1)[self.image].reshape(-1, channels)
        return self._scattered(whole, self.frame, within_frame=True)

    def _refuse(self, frames: Tensor) -> None:
        """Raises where ``frames`` cannot be those of these windows."""
        expected = (self.values.shape[1], *self.frame)
        if frames.dim() != 4 or tuple(frames.shape[1:]) != expected:
            raise ValueError(f"Windows.paste: expected frames {('N', *expected)}, got {tuple(frames.shape)}")
        if self.images is not None and self.images > frames.shape[0]:
            raise ValueError(
                f"Windows.paste: expected image below {frames.shape[0]}, the number of frames, got {self.images - 1}"
            )

    def crops(self, origins: Tensor, size: Pair, rows: Tensor | None = None) -> Tensor:
        """Crops of one size from the layers of some windows, zero outside the windows and the frame: [K, C, h, w].

        Args:
            origins: int [K, 2], row and column where each begins; it may hang over the frame's border.
            size: (h, w).
            rows: int64 [K], the windows; None: all, in their order.
        """
        box, first = self.boxes.long(), self.offsets[:-1]
        if rows is not None:
            rows = rows.to(box.device)
            box, first = box[rows], first[rows]
        row, column = (
            origins[:, axis, None].to(box) + torch.arange(size[axis], device=box.device) - box[:, axis, None]
            for axis in (0, 1)
        )
        inside = ((row >= 0) & (row < box[:, 2:3]))[:, :, None] & ((column >= 0) & (column < box[:, 3:]))[:, None, :]
        cell = first[:, None, None] + row[:, :, None] * box[:, 3, None, None] + column[:, None, :]
        values = self.values.new_zeros(*inside.shape, self.values.shape[1])
        values[inside] = self.values[cell[inside]]
        return values.permute(0, 3, 1, 2)

    def padded(self, value: float = 0) -> Tensor:
        """All windows in the upper left corners of maps as large as the largest: [P, C, h, w], ``value`` beyond them.

        On a GPU this waits for the boxes.
        """
        size = self._largest()
        whole = self.values.new_full((len(self) * size[0] * size[1], self.values.shape[1]), value)
        return self._scattered(whole, size, within_frame=False)

    @property
    def mask(self) -> Tensor:
        """bool [P, 1, h, w]: which cells of :meth:`padded` belong to a window."""
        height, width = self._largest()
        rows = torch.arange(height, device=self.boxes.device) < self.boxes[:, 2, None]
        columns = torch.arange(width, device=self.boxes.device) < self.boxes[:, 3, None]
        return (rows[:, :, None] & columns[:, None, :])[:, None]

    def _largest(self) -> Pair:
        height, width = self.boxes[:, 2:].amax(0).tolist() if len(self) else (0, 0)
        return height, width

    def _scattered(self, whole: Tensor, size: Pair, *, within_frame: bool) -> Tensor:
        """``whole`` [P * h * w, C] with the cells of the windows in their places, as [P, C, h, w]."""
        owner = self.layout.owner
        rows, columns = cell_places(self.boxes, self.offsets, owner)
        if not within_frame:
            rows, columns = rows - self.boxes[owner, 0], columns - self.boxes[owner, 1]
        whole.index_copy_(0, (owner.long() * size[0] + rows) * size[1] + columns, self.values)
        return whole.view(len(self), size[0], size[1], self.values.shape[1]).permute(0, 3, 1, 2)


def cell_places(boxes: Tensor, offsets: Tensor, owner: Tensor) -> tuple[Tensor, Tensor]:
    """Row and column of every cell in its layer, int64 [cells] each; ``owner`` int32 [cells] is each cell's window."""
    box = boxes.to(torch.int64).index_select(0, owner)
    index = torch.arange(owner.shape[0], device=owner.device) - offsets.index_select(0, owner)
    row = index // box[:, 3]
    return box[:, 0] + row, box[:, 1] + index - row * box[:, 3]


def crop(frames: Tensor, origins: Tensor, image: Tensor, size: Pair) -> Tensor:
    """Crops of ``size`` (h, w), inside the frames [N, C, H, W] of images int64 [P], from origins int [P, 2] on.

    Returns:
        [P, C, h, w], channels last.
    """
    rows, columns = (
        origins[:, axis, None].to(image) + torch.arange(size[axis], device=image.device) for axis in (0, 1)
    )
    return frames[image[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def layout_of(op: str, argument: str, boxes: Tensor | Boxes, image: Tensor, frame: Pair) -> Layout:
    """:meth:`Layout.of` for a caller of another name."""
    flat = boxes.flat if isinstance(boxes, Boxes) else boxes.to(torch.int32)
    if flat.dim() != 2 or flat.shape[1] != 4:
        raise ValueError(f"{op}: expected {argument} [P, 4], got {tuple(flat.shape)}")
    if image.shape != flat.shape[:1]:
        raise ValueError(f"{op}: expected image [{flat.shape[0]}], got {tuple(image.shape)}")
    size = flat[:, 2:].to(torch.int64).prod(1)
    offsets = torch.cat([size.new_zeros(1), size.cumsum(0)])
    inside, images, cells = _facts(flat, offsets, image, frame)
    if not inside:
        raise ValueError(f"{op}: expected {argument} inside the frame {frame}, got {_outside(flat, frame)}")
    if images is None:
        raise ValueError(f"{op}: expected image at least 0, got {int(image.min())}")
    return Layout(flat, offsets, image, frame, cells, owners(offsets, cells), images)


def check(op: str, argument: str, boxes: Tensor, offsets: Tensor, image: Tensor, frame: Pair, cells: int) -> int:
    """How many images there have to be; raises a ``ValueError`` in the name of ``op`` where the tensors do not fit."""
    inside, images, last = _facts(boxes, offsets, image, frame)
    if not inside:
        raise ValueError(
            f"{op}: expected {argument}.boxes inside the frame {frame}, and {argument}.offsets that fit them,"
            f" got {_outside(boxes, frame) or offsets.tolist()[:8]}"
        )
    if images is None:
        raise ValueError(f"{op}: expected {argument}.image at least 0, got {int(image.min())}")
    if last != cells:
        raise ValueError(f"{op}: expected {argument} of {last} cells, as its offsets say, got {cells}")
    return images


def _facts(boxes: Tensor, offsets: Tensor, image: Tensor, frame: Pair) -> tuple[bool, int | None, int]:
    """Whether boxes and offsets fit; images that there have to be (None: one is negative); cells. One wait for all."""
    if boxes.shape[0] == 0:
        return not offsets.any(), 0, 0
    box = boxes.to(torch.int64)
    size = box[:, 2:].prod(1)
    end = box[:, :2] + box[:, 2:]
    misfit = (offsets[0] != 0) | (offsets.diff() != size).any()
    height, width = end.amax(0)
    facts = torch.stack([misfit.long(), box.amin(), height, width, image.amin(), image.amax(), offsets[-1]]).tolist()
    fits = facts[0] == 0 and facts[1] >= 0 and facts[2] <= frame[0] and facts[3] <= frame[1]
    low_image, high_image, cells = facts[4:]
    return fits, high_image + 1 if low_image >= 0 else None, cells


def _outside(boxes: Tensor, frame: Pair) -> list[int] | None:
    """The first box that does not lie inside the frame."""
    for top, left, height, width in boxes.tolist():
        if min(top, left, height, width) < 0 or top + height > frame[0] or left + width > frame[1]:
            return [top, left, height, width]
    return None


def owners(offsets: Tensor, cells: int) -> Tensor:
    """The window of each cell, int32 [cells]."""
    windows = torch.arange(offsets.shape[0] - 1, dtype=torch.int32, device=offsets.device)
    return windows.repeat_interleave(offsets.diff(), output_size=cells)


def _unflatten_layout(leaves: Iterable[Any], context: Any) -> Layout:
    boxes, offsets, image, owner = leaves
    frame, cells, images = context
    return Layout(boxes, offsets, image, tuple(frame), cells, owner, images)


def _unflatten_windows(leaves: Iterable[Any], context: Any) -> Windows:
    values, boxes, offsets, image = leaves
    frame, images = context
    return Windows(values, boxes, offsets, image, tuple(frame), images)


pytree.register_pytree_node(
    Layout,
    lambda at: ([at.boxes, at.offsets, at.image, at.owner], (at.frame, at.cells, at.images)),
    _unflatten_layout,
    serialized_type_name="zfkernels.windows.Layout",
    to_dumpable_context=list,
    from_dumpable_context=tuple,
)
pytree.register_pytree_node(
    Windows,
    lambda windows: ([windows.values, windows.boxes, windows.offsets, windows.image], (windows.frame, windows.images)),
    _unflatten_windows,
    serialized_type_name="zfkernels.windows.Windows",
    to_dumpable_context=list,
    from_dumpable_context=tuple,
)

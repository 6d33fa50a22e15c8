"""What is hidden and what is shown instead: fills and masks, for the entries (image, position) of any chunk."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from zfkernels.network.kinds import Occluder, occluded_windows
from zfkernels.windows import Layout, Windows, cell_places, layout_of


@dataclass(frozen=True)
class Cover:
    """What the hidden pixels of each box show, and which pixels of it are hidden.

    Rows and columns of ``each``, ``weight`` and ``mask`` count from a box's corner before it is clipped to the image.

    Attributes:
        fill: [C], or an image for each image [N, C, H, W]; what is shown where neither of the next two is given.
        each: [P, C, h, w], a fill for each position.
        weight: [h, w]: the image's own pixels times it are shown.
        mask: bool [h, w], what of a box is hidden; None: all of it.
        labels: int64 [H, W]; with it a pixel is hidden where it has its position's label.
        label: int64 [P], with ``labels``.
    """

    fill: Tensor
    each: Tensor | None = None
    weight: Tensor | None = None
    mask: Tensor | None = None
    labels: Tensor | None = None
    label: Tensor | None = None

    def to(self, like: Tensor) -> Cover:
        """The same on the device of ``like``, what is shown in its dtype."""
        shown = (None if part is None else part.to(like) for part in (self.fill, self.each, self.weight))
        hidden = (None if part is None else part.to(like.device) for part in (self.mask, self.labels, self.label))
        return Cover(*shown, *hidden)  # type: ignore[arg-type]

    def over(self, images: Tensor, layout: Layout, position: Tensor, corner: Tensor) -> Occluder:
        """What hides the entries of a chunk; nothing on the device is waited for.

        Args:
            images: [N, C, H, W].
            layout: of the K boxes, clipped.
            position: int64 [K], which position each entry is.
            corner: int [K, 2], the corner of each box before it was clipped.
        """
        fill: Tensor | Windows = self.fill
        if self.each is None and self.weight is None and self.mask is None and self.labels is None:
            return Occluder(images, layout.boxes, fill)
        rows, columns = cell_places(layout.boxes, layout.offsets, layout.owner)
        first = corner.long().index_select(0, layout.owner)
        inner = rows - first[:, 0], columns - first[:, 1]
        at = position.index_select(0, layout.owner)
        if self.each is not None:
            fill = layout.windows(self.each[at, :, inner[0], inner[1]])
        elif self.weight is not None:
            shown = images[layout.image.index_select(0, layout.owner), :, rows, columns]
            fill = layout.windows(shown * self.weight[inner][:, None])
        hidden = None
        if self.mask is not None:
            hidden = self.mask[inner]
        elif self.labels is not None and self.label is not None:
            hidden = self.labels[rows, columns] == self.label.index_select(0, at)
        mask = None if hidden is None else layout.windows(hidden[:, None])
        return Occluder(images, layout.boxes, fill, mask)


def hide(images: Tensor, image: Tensor, position: Tensor, boxes: Tensor, cover: Cover) -> Tensor:
    """Whole occluded images [K, C, H, W].

    Args:
        images: [N, C, H, W].
        image: int64 [K], which of them.
        position: int64 [K], which position each entry is.
        boxes: int [K, 4] (top, left, height, width), what is hidden of each; clipped to the image.
        cover: what is hidden of a box, and what is shown.
    """
    frame = (images.shape[2], images.shape[3])
    boxes = boxes.to(images.device, torch.int64)
    limit = boxes.new_tensor(frame)
    first = boxes[:, :2].clamp(min=0).minimum(limit)
    last = (boxes[:, :2] + boxes[:, 2:]).clamp(min=0).minimum(limit)
    size = (last - first).clamp(min=0)
    layout = layout_of("occlusion_sweep", "boxes", torch.cat([first, size], 1), image, frame)
    occluder = cover.to(images).over(images, layout, position, boxes[:, :2])
    return occluded_windows(occluder, layout).paste(images)

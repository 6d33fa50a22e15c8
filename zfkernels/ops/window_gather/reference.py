"""Cells from several sets of windows in turn, from the frames or zero, in plain PyTorch.

out[i] = the cell at (y, x) of window rows[s][p] of the first source s that has it, else of frame image[p], else zero,
with (p, y, x) the window and the place of output cell i.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from zfkernels.geometry import Pair
from zfkernels.ops._window_cells import Cells, Source, parts


def window_gather(
    out_boxes: Tensor,  # int32 [P, 4]
    out_offsets: Tensor,  # int64 [P + 1]
    owner: Tensor,  # int32 [out cells]
    cells: int,  # out cells
    image: Tensor,  # int64 [P]
    values: Sequence[Tensor],  # [cells, C] each
    boxes: Sequence[Tensor],  # int32 [P', 4] each
    offsets: Sequence[Tensor],  # int64 [P' + 1] each
    rows: Sequence[Tensor | None],  # int64 [P] each: the window of the source; None: the windows one by one
    frames: Tensor | None,  # [N, C, H, W]
    frame: Pair,  # (H, W)
) -> Tensor:  # [cells, C]
    like = values[0] if values else frames
    assert like is not None  # the public function refuses it
    sources = [Source(*fields) for fields in zip(values, boxes, offsets, strict=True)]
    source = Cells.of(sources, frames, frame, like.dtype)
    out = like.new_empty(cells, like.shape[1])
    for part in parts(out_boxes, out_offsets, image, owner, like.shape[1]):
        window = [part.owner if row is None else row.index_select(0, part.owner) for row in rows]
        index = source.index(window, part.image, part.rows[:, None], part.columns[:, None])
        out[part.cells] = source.table.index_select(0, index.flatten())
    return out

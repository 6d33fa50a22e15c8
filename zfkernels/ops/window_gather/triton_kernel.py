"""Cells from several sets of windows in turn, from the frames or zero, in Triton.

    out[i] = the cell at (y, x) of window picked[s][p] of the first source s that has it, else of frame image[p], else 0

with (p, y, x) the window and the place of output cell i. A program owns a tile of cells times channels. Each cell looks
for its source first: one pointer, then copies of 16 bytes. A launch takes up to three sources; of more, the last ones
are gathered first and are the last source of the next launch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import triton
import triton.language as tl
from torch import Tensor

from zfkernels.geometry import Pair
from zfkernels.ops._triton_cells import aligned, in_frame, in_window, place_of, rows, window_at
from zfkernels.ops._triton_launch import channels_last, dense, elements, index_type, launch, power_of_two

SOURCES = 3  # of a launch


@triton.jit
def overlaid(
    source, exists, y, x, window, values_ptr, boxes_ptr, offsets_ptr, picked_ptr, stride,
    ALIGNED: tl.constexpr, INDEX: tl.constexpr,
):  # fmt: skip
    """The pointers to what was found so far, those into another set of windows, if there is one, before them."""
    if values_ptr is not None:
        if picked_ptr is not None:
            window = tl.load(picked_ptr + window).to(INDEX)
        top, left, height, width, first = window_at(window, boxes_ptr, offsets_ptr, INDEX)
        has, cell = in_window(y, x, top, left, height, width, first, INDEX)
        source = tl.where(has, values_ptr + cell * stride, source)
        if ALIGNED:
            source = tl.multiple_of(source, 16)
        exists = exists | has
    return source, exists


@triton.jit
def gather_kernel(
    a_ptr, a_boxes_ptr, a_offsets_ptr, a_picked_ptr, a_stride,  # [cells, C], int32 [P', 4], int64 [P' + 1], int64 [P]
    b_ptr, b_boxes_ptr, b_offsets_ptr, b_picked_ptr, b_stride,  # likewise, or None; picked None: the windows one by one
    c_ptr, c_boxes_ptr, c_offsets_ptr, c_picked_ptr, c_stride,
    image_ptr,  # int64 [P]
    frames_ptr,  # [N, H, W, C] or None
    out_boxes_ptr,  # int32 [P, 4]
    out_offsets_ptr,  # int64 [P + 1]
    owner_ptr,  # int32 [CELLS]
    out_ptr,  # [CELLS, C]
    CELLS, C, H, W,
    ALIGNED: tl.constexpr, INDEX: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    cell = tl.program_id(0).to(INDEX) * ROWS + tl.arange(0, ROWS)
    channel = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    live = cell < CELLS
    window, y, x = place_of(cell, live, owner_ptr, out_boxes_ptr, out_offsets_ptr, INDEX)
    exists = cell < 0
    source = out_ptr + cell * C  # never read
    if frames_ptr is not None:
        exists, of_frame = in_frame(y, x, tl.load(image_ptr + window).to(INDEX), H, W, INDEX)
        source = frames_ptr + of_frame * C
        if ALIGNED:
            source = tl.multiple_of(source, 16)
    source, exists = overlaid(
        source, exists, y, x, window, c_ptr, c_boxes_ptr, c_offsets_ptr, c_picked_ptr, c_stride, ALIGNED, INDEX
    )  # fmt: skip
    source, exists = overlaid(
        source, exists, y, x, window, b_ptr, b_boxes_ptr, b_offsets_ptr, b_picked_ptr, b_stride, ALIGNED, INDEX
    )  # fmt: skip
    source, exists = overlaid(
        source, exists, y, x, window, a_ptr, a_boxes_ptr, a_offsets_ptr, a_picked_ptr, a_stride, ALIGNED, INDEX
    )  # fmt: skip
    mask = (live & exists)[:, None] & (channel < C)[None, :]
    value = tl.load(source[:, None] + channel[None, :], mask=mask, other=0.0)
    tl.store(out_ptr + (cell * C)[:, None] + channel[None, :], value, mask=live[:, None] & (channel < C)[None, :])


def window_gather(
    out_boxes: Tensor,  # int32 [P, 4]
    out_offsets: Tensor,  # int64 [P + 1]
    owner: Tensor,  # int32 [out cells]
    cells: int,  # out cells
    image: Tensor,  # int64 [P]
    values: Sequence[Tensor],  # [cells, C] each
    boxes: Sequence[Tensor],  # int32 [P', 4] each
    offsets: Sequence[Tensor],  # int64 [P' + 1] each
    picked: Sequence[Tensor | None],  # int64 [P] each: the window of the source; None: the windows one by one
    frames: Tensor | None,  # [N, C, H, W]
    frame: Pair,  # (H, W)
) -> Tensor:  # [cells, C]
    if len(values) > SOURCES:
        last = [part[SOURCES - 1 :] for part in (values, boxes, offsets, picked)]
        rest = window_gather(out_boxes, out_offsets, owner, cells, image, *last, frames, frame)
        found = (rest, out_boxes, out_offsets, None)
        values, boxes, offsets, picked = (
            [*part[: SOURCES - 1], one]
            for part, one in zip((values, boxes, offsets, picked), found, strict=True)
        )  # fmt: skip
        frames = None
    sources = [
        (rows(source), box.contiguous(), offset.contiguous(), dense(row), rows(source).stride(0))
        for source, box, offset, row in zip(values, boxes, offsets, picked, strict=True)
    ]
    flat: list[Any] = [field for source in sources for field in source]
    flat += [None] * (5 * (SOURCES - len(sources)))
    around = None if frames is None else channels_last(frames)
    like = values[0] if len(values) else frames
    assert like is not None  # the public function refuses it
    channels = like.shape[1]
    out = like.new_empty(cells, channels)
    block = power_of_two(channels, 4, 128)
    read = [*(source[0] for source in sources), around, out]
    launch(
        gather_kernel, (triton.cdiv(cells, elements() // block), triton.cdiv(channels, block)), out,
        *flat, image.contiguous(), around, out_boxes.contiguous(), out_offsets.contiguous(), owner.contiguous(), out,
        cells, channels, *frame, ALIGNED=aligned(*read, channels=channels),
        INDEX=index_type(*read, out_boxes, *boxes), ROWS=elements() // block, COLUMNS=block,
    )  # fmt: skip
    return out

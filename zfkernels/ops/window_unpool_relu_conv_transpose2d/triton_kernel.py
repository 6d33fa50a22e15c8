"""One DeconvNet stage on windows in Triton: unpool with switches -> ReLU -> transposed convolution.

    u[p, c, y, x] = sum (or the last) of the values of the pooling windows whose switch points at (y, x)
    out[i, d] = sum over c, ky, kx of w[c, d, ky, kx] max(u[p, c, (y + pad - ky d) / s, (x + pad - kx d) / s], 0)

with (p, y, x) the window and the place of output cell i. The sums are those of the stage on whole maps
(``zfkernels.ops.unpool_relu_conv_transpose2d.triton_kernel`` has the words): a program owns a tile of places with all
phases of the stride and all lattices of the pooling. Windows have places of their own, as many as their boxes need,
one window's after the other's. How many there are in all is not known before the boxes are read, and nothing waits for
that: the grid has room for the most that so many cells can need, a program beyond the last place ends at once, and a
place finds its window by bisection.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from zfkernels.geometry import Pair, Sliding
from zfkernels.ops._triton_cells import aligned, rows, window_at
from zfkernels.ops._triton_launch import (
    channels_last,
    dot_precision,
    index_type,
    launch,
    shape_class,
    tensor_products,
    warpgroup_products,
)
from zfkernels.ops.unpool_relu_conv_transpose2d.triton_kernel import Tile, tiles
from zfkernels.ops.unpool_relu_conv_transpose2d.triton_plan import (
    ConvolutionAxis,
    bands,
    blocks,
    constant,
    convolution_axis,
    packed_filters,
    used,
)
from zfkernels.ops.unpool_relu_conv_transpose2d.triton_stages import added, first_place
from zfkernels.ops.unpool_relu_conv_transpose2d.triton_unpool import at
from zfkernels.tuning import choose, gpu_name


@triton.jit
def located(
    place, total, P, STEPS, starts_ptr, boxes_ptr, offsets_ptr, CONV_Y: tl.constexpr, CONV_X: tl.constexpr,
    LATTICES_Y: tl.constexpr, LATTICES_X: tl.constexpr, INDEX: tl.constexpr,
):  # fmt: skip
    """Of places: is there one, its window, the window's box and first cell of the outputs, ty and tx."""
    live = place < total
    window = tl.zeros_like(place).to(tl.int32)
    for step in tl.range(0, STEPS):  # the last window that starts at the place or before it
        probe = window + (1 << (STEPS - 1 - step))
        exists = live & (probe < P)
        start = tl.load(starts_ptr + probe, mask=exists, other=0).to(INDEX)
        window = tl.where(exists & (start <= place), probe, window)
    top, left, height, width, first = window_at(window.to(INDEX), boxes_ptr, offsets_ptr, INDEX)
    inside = tl.where(live, place - tl.load(starts_ptr + window).to(INDEX), 0).to(tl.int32)
    origin = first_place(left, CONV_X, LATTICES_X)
    across = (left + width - 1 + at(CONV_X, "padding")) // (at(CONV_X, "stride") * LATTICES_X) - origin + 1
    across = tl.maximum(across, 1)
    ty = inside // across + first_place(top, CONV_Y, LATTICES_Y)
    return live, window.to(INDEX), top, left, height, width, first, ty, inside % across + origin


@triton.jit
def window_stage_kernel(
    values_ptr,  # [cells, C], rows ``stride`` apart
    boxes_ptr,  # int32 [P, 4]
    offsets_ptr,  # int64 [P + 1]
    image_ptr,  # int64 [P]
    frames_ptr,  # [N, HP, WP, C] or None
    switches_ptr,  # uint8 [N, HP, WP, C]
    filters_ptr,  # [groups, splits, taps_y, taps_x, CP, phases D]
    out_boxes_ptr,  # int32 [P, 4]
    out_offsets_ptr,  # int64 [P + 1]
    starts_ptr,  # int64 [P + 1]: the first place of each window, and their number
    out_ptr,  # [out cells, groups DG]
    P,
    STEPS,  # bits of P
    stride, C,
    CG,  # C / groups
    CP,  # CG up to a multiple of BLOCK_K
    DG,  # output channels of a group
    HP, WP, HU, WU,
    D: tl.constexpr,  # output channels of a program
    CONV_Y: tl.constexpr, CONV_X: tl.constexpr, POOL_Y: tl.constexpr, POOL_X: tl.constexpr,
    BANDS_Y: tl.constexpr, BANDS_X: tl.constexpr,
    BLOCKS: tl.constexpr,  # of the phases D columns: (first, columns), a power of two each
    USED: tl.constexpr,  # by tap and block: does a phase have it
    SWITCHED: tl.constexpr, LAST: tl.constexpr, RECTIFY: tl.constexpr,
    EVEN: tl.constexpr,  # CG is a multiple of BLOCK_K
    ALIGNED: tl.constexpr, PRECISION: tl.constexpr, INDEX: tl.constexpr,
    LATTICES: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_K: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    start = tl.program_id(0).to(INDEX) * BLOCK_T
    total = tl.load(starts_ptr + P).to(INDEX)
    if start >= total:
        return
    split = tl.program_id(1)
    group = tl.program_id(2)
    live, window, _, _, _, _, _, ty, tx = located(
        start + tl.arange(0, BLOCK_T), total, P, STEPS, starts_ptr, out_boxes_ptr, out_offsets_ptr,
        CONV_Y, CONV_X, at(POOL_Y, "stride"), at(POOL_X, "stride"), INDEX,
    )  # fmt: skip
    top, left, height, width, first = window_at(window, boxes_ptr, offsets_ptr, INDEX)
    image = tl.load(image_ptr + window).to(INDEX)
    PHASES: tl.constexpr = at(CONV_Y, "phases") * at(CONV_X, "phases")
    TAPS: tl.constexpr = at(CONV_Y, "taps") * at(CONV_X, "taps")
    filters_base = filters_ptr + ((group * tl.num_programs(1) + split) * TAPS).to(INDEX) * CP * (PHASES * D)
    sums = ()
    for block in tl.static_range(len(BLOCKS)):
        sums = sums + (tl.full((BLOCK_T * LATTICES, at(BLOCKS, block, 1)), 0.0, tl.float32),)
    for band in tl.static_range(len(BANDS_Y) * len(BANDS_X)):
        sums = added(
            sums, values_ptr, switches_ptr, frames_ptr, filters_base, live, image, first, top, left, ty, tx, group,
            C, stride, CG, CP, HP, WP, height, width, HU, WU, CONV_X, POOL_Y, POOL_X,
            at(BANDS_Y, band // len(BANDS_X)), at(BANDS_X, band % len(BANDS_X)), PHASES * D, BLOCKS, USED,
            SWITCHED, True, LAST, RECTIFY, EVEN, ALIGNED, PRECISION, LATTICES, BLOCK_K, STAGES,
        )  # fmt: skip

    row = tl.arange(0, BLOCK_T * LATTICES)
    live, window, top, left, height, width, first, ty, tx = located(
        start + row // LATTICES, total, P, STEPS, starts_ptr, out_boxes_ptr, out_offsets_ptr,
        CONV_Y, CONV_X, at(POOL_Y, "stride"), at(POOL_X, "stride"), INDEX,
    )  # fmt: skip
    lattice = row % LATTICES
    live = live & (lattice < at(POOL_Y, "stride") * at(POOL_X, "stride"))
    row_of_phase = ty * at(POOL_Y, "stride") + lattice // at(POOL_X, "stride")
    column_of_phase = tx * at(POOL_X, "stride") + lattice % at(POOL_X, "stride")
    y = row_of_phase * at(CONV_Y, "stride") - at(CONV_Y, "padding") - top
    x = column_of_phase * at(CONV_X, "stride") - at(CONV_X, "padding") - left
    for block in tl.static_range(len(BLOCKS)):
        column = at(BLOCKS, block, 0) + tl.arange(0, at(BLOCKS, block, 1))
        down = y[:, None] + (column // D // at(CONV_X, "phases") * at(CONV_Y, "dilation"))[None, :]
        right = x[:, None] + (column // D % at(CONV_X, "phases") * at(CONV_X, "dilation"))[None, :]
        of_split = split * D + column % D
        in_y = down.to(tl.uint32) < height[:, None]
        in_x = right.to(tl.uint32) < width[:, None]
        mask = live[:, None] & (of_split < DG)[None, :] & in_y & in_x
        cell = first[:, None] + down.to(INDEX) * width[:, None] + right
        out = cell * (tl.num_programs(2) * DG) + (group * DG + of_split)[None, :]
        tl.store(out_ptr + out, sums[block].to(out_ptr.dtype.element_ty), mask=mask)


def window_unpool_relu_conv_transpose2d(
    values: Tensor,  # [cells, C]
    boxes: Tensor,  # int32 [P, 4]
    offsets: Tensor,  # int64 [P + 1]
    image: Tensor,  # int64 [P]
    frames: Tensor | None,  # [N, C, Hp, Wp]
    frame: Pair,  # (Hp, Wp)
    switches: Tensor | None,  # uint8 [N, C, Hp, Wp]
    weight: Tensor,  # [C, C_in / groups, kh, kw]
    out_boxes: Tensor,  # int32 [P, 4]
    out_offsets: Tensor,  # int64 [P + 1]
    owner: Tensor,  # int32 [out cells]
    cells: int,  # out cells
    pool_kernel_size: Pair,
    pool_stride: Pair,
    pool_padding: Pair,
    pool_dilation: Pair,
    unpooled_size: Pair,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
    overlap: str,
    rectify: bool,
) -> Tensor:  # [cells, C_in]
    pool = (
        Sliding(pool_kernel_size, pool_stride, pool_padding, pool_dilation) if switches is not None else Sliding((1, 1))
    )
    conv = Sliding((weight.shape[2], weight.shape[3]), stride, padding, dilation)
    axes = [convolution_axis(conv, axis) for axis in (0, 1)]
    count, channels, columns = boxes.shape[0], values.shape[1], weight.shape[1]
    phases, lattices = axes[0].phases * axes[1].phases, triton.next_power_of_2(pool.stride[0] * pool.stride[1])
    in_group, room = channels // groups, most_places(cells, count, axes, pool)
    out = values.new_empty(cells, columns * groups)
    nothing = values.shape[0] == 0 and frames is None
    if nothing or phases < stride[0] * stride[1]:  # some outputs have no tap
        out.zero_()
    if nothing:
        return out
    values, frames = rows(values), None if frames is None else channels_last(frames)
    codes = values if switches is None else channels_last(switches)  # without switches they are not read
    starts = first_places(out_boxes, axes, pool)
    index = tl.int64 if room >= 2**30 else index_type(values, frames, codes, out, boxes, out_boxes)

    def stage(tile: Tile) -> None:
        filters = packed_filters(weight, axes, groups, tile.columns, tile.block_k)
        block_t = max(tile.rows // lattices, 1)
        cut = blocks(phases * tile.columns)
        launch(
            window_stage_kernel, (triton.cdiv(room, block_t), filters.shape[1], groups), values,
            values, boxes.contiguous(), offsets.contiguous(), image.contiguous(), frames, codes, filters,
            out_boxes.contiguous(), out_offsets.contiguous(), starts, out, count, count.bit_length(),
            values.stride(0), channels, in_group, filters.shape[4], columns, *frame, *unpooled_size, tile.columns,
            *map(constant, axes), *((pool.kernel[i], pool.stride[i]) for i in (0, 1)),
            *(constant(bands(axes[i], pool, i, tile.taps[i])) for i in (0, 1)), cut, used(cut, tile.columns, axes),
            SWITCHED=switches is not None, LAST=overlap == "last", RECTIFY=rectify, EVEN=in_group % tile.block_k == 0,
            ALIGNED=aligned(values, frames, channels=in_group), PRECISION=dot_precision(), INDEX=index,
            LATTICES=lattices, BLOCK_T=block_t, BLOCK_K=tile.block_k, STAGES=tile.stages, num_warps=tile.warps,
        )  # fmt: skip

    taps = (axes[0].taps, axes[1].taps)
    found = tiles(
        room, lattices, columns, phases, taps, in_group, values.element_size(),
        products=tensor_products(values), warpgroups=warpgroup_products(values.device),
    )  # fmt: skip
    key = shape_class("window_stage", values.dtype, cells, columns, in_group, phases, *taps, lattices)
    stage(choose(key, found, stage, gpu_name(values.device)))
    return out


def first_places(out_boxes: Tensor, axes: list[ConvolutionAxis], pool: Sliding) -> Tensor:
    """The first place of each window and the number of places of all, int64 [P + 1]; nothing is sent to the device."""
    steps, before, behind = [], [], []
    for i in (0, 1):
        axis = axes[i]
        steps.append(axis.stride * pool.stride[i])
        before.append(axis.padding - (axis.phases - 1) * axis.dilation + axis.stride - 1)
        behind.append(axis.padding - 1 + steps[i])
    low, size, step = out_boxes[:, :2], out_boxes[:, 2:], _of_axes(out_boxes, steps)
    first = torch.div(low + _of_axes(low, before), step, rounding_mode="floor")
    end = torch.div(low + size + _of_axes(low, behind), step, rounding_mode="floor")
    counts = (end - first) * (size > 0)
    starts = out_boxes.new_zeros(len(out_boxes) + 1, dtype=torch.int64)
    torch.cumsum(counts[:, 0] * counts[:, 1], 0, out=starts[1:])
    return starts


def _of_axes(like: Tensor, numbers: list[int]) -> Tensor | int:
    """A number for rows and one for columns, in a form that broadcasts against [P, 2], made on the device."""
    if numbers[0] == numbers[1]:
        return numbers[0]
    return torch.arange(2, dtype=like.dtype, device=like.device) * (numbers[1] - numbers[0]) + numbers[0]


def most_places(cells: int, count: int, axes: list[ConvolutionAxis], pool: Sliding) -> int:
    """A bound for the places of ``count`` windows with so many output cells in all, whatever their boxes are.

    n cells along an axis need at most (n + more) / step places, and two numbers above 0 have a sum of at most their
    product and 1.
    """
    steps = [axes[i].stride * pool.stride[i] for i in (0, 1)]
    more = [max((axes[i].phases - 1) * axes[i].dilation - 2 + 2 * steps[i], 0) for i in (0, 1)]
    windows = min(cells, count)
    return (cells + max(more) * (cells + windows) + more[0] * more[1] * windows) // (steps[0] * steps[1])

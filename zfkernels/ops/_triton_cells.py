"""How the Triton kernels on windows find cells: whose each is, where it lies, and what a layer shows at a place.

Output cells stand one after the other, those of window p from ``offsets[p]`` on, row by row in ``boxes[p]`` (top, left,
height, width); ``owner`` names the window of each. A place of a layer is read from the window where it has the cell,
else from the frame of its image, else there is nothing: one pointer, whatever lies behind it.

Offsets into memory are of the type ``INDEX``; rows and columns of a layer are int32.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor
from torch.nn import Parameter


@triton.jit
def place_of(cell, live, owner_ptr, boxes_ptr, offsets_ptr, INDEX: tl.constexpr):
    """Of cells (``live``: there is one): window, row and column in the layer. Others get the place of some window."""
    window = tl.load(owner_ptr + cell, mask=live, other=0).to(INDEX)
    box = boxes_ptr + 4 * window
    width = tl.load(box + 3, mask=live, other=1)
    inside = cell - tl.load(offsets_ptr + window, mask=live, other=0).to(INDEX)
    row = (inside // width).to(tl.int32)
    column = (inside % width).to(tl.int32)
    return window, tl.load(box, mask=live, other=0) + row, tl.load(box + 1, mask=live, other=0) + column


@triton.jit
def window_at(window, boxes_ptr, offsets_ptr, INDEX: tl.constexpr):
    """Top, left, height, width and the first cell of windows."""
    box = boxes_ptr + 4 * window
    first = tl.load(offsets_ptr + window).to(INDEX)
    return tl.load(box), tl.load(box + 1), tl.load(box + 2), tl.load(box + 3), first


@triton.jit
def in_window(y, x, top, left, height, width, first, INDEX: tl.constexpr):
    """Of places of a layer: does the window have the cell, and which of all cells is it."""
    row = y - top
    column = x - left
    has = (row.to(tl.uint32) < height) & (column.to(tl.uint32) < width)
    return has, first + row.to(INDEX) * width + column


@triton.jit
def in_frame(y, x, image, H, W, INDEX: tl.constexpr):
    """Of places of a layer: does the frame have the cell, and which of the cells of all frames is it."""
    has = (y.to(tl.uint32) < H) & (x.to(tl.uint32) < W)
    return has, (image * H + y) * W + x


@triton.jit
def seen(
    y, x, live, top, left, height, width, first, image, values_ptr, frames_ptr, stride, C, H, W,
    ALIGNED: tl.constexpr, INDEX: tl.constexpr,
):  # fmt: skip
    """Pointers to what windows in their frames show at places of a layer, and where there is anything to see.

    ``stride`` is the distance of two cells of the windows, C that of two cells of the frames (None: no frames).
    ``ALIGNED``: the rows of both begin at multiples of 16 bytes.
    """
    exists, cell = in_window(y, x, top, left, height, width, first, INDEX)
    source = values_ptr + cell * stride
    if frames_ptr is not None:
        framed, of_frame = in_frame(y, x, image, H, W, INDEX)
        source = tl.where(exists, source, frames_ptr + of_frame * C)
        exists = framed
    if ALIGNED:
        source = tl.multiple_of(source, 16)
    return source, live & exists


def rows(values: Tensor) -> Tensor:
    """[cells, C] with the channels of a cell side by side; a copy only where they lie otherwise."""
    return values if values.shape[1] == 1 or values.stride(1) == 1 else values.contiguous()


def aligned(*tensors: Tensor | None, channels: int) -> bool:
    """Whether runs of so many channels in rows [cells, C] or frames, channels last, begin at multiples of 16 bytes."""
    return all(tensor is None or _aligned(tensor, channels) for tensor in tensors)


def _aligned(tensor: Tensor, channels: int) -> bool:
    size = tensor.element_size()
    real = type(tensor) is Tensor or type(tensor) is Parameter  # others have no address yet: PyTorch aligns them
    start = tensor.data_ptr() if real else tensor.storage_offset() * size
    row = tensor.stride(0) if tensor.dim() == 2 else tensor.shape[1]
    return all(number % 16 == 0 for number in (start, row * size, channels * size))

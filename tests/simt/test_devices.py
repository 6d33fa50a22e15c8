"""The kernels on each generation's own limits, and on tensors whose offsets need 64 bits."""

from __future__ import annotations

import ctypes
import math
import mmap
from typing import Any

import pytest
import torch
from emulation import FAST, become
from support.comparing import assert_bits_equal, assert_within_budget, call
from support.maker import Maker
from support.samples import SAMPLES
from torch.utils import _pytree as pytree

from zfkernels import ops
from zfkernels.windows import Layout

pytestmark = pytest.mark.skipif(not FAST, reason="these are about numbers")

GENERATIONS = ("sm_75", "sm_80", "sm_86", "sm_90")  # 64, 163, 99 and 227 KB of shared memory for a block
STAGE, OCCLUDED = "window_unpool_relu_conv_transpose2d", "occluded_conv2d"
SMALLER = {"sm_75", "sm_86"}  # those with less than 100 KB

# Layers that reach far: op, options of its sample, and the generations whose shared memory cannot hold what one block
# needs.
FAR: dict[str, tuple[str, dict[str, Any], set[str]]] = {
    "pixels, 13 x 13": (STAGE, {"kernel": (13, 13), "size": (40, 41), "pool": None}, SMALLER),
    "outputs, dilation 14": (
        STAGE, {"kernel": (3, 3), "dilation": 14, "size": (37, 36), "pool": None, "channels": (4, 16)}, SMALLER,
    ),
    "dilation 100": (
        OCCLUDED, {"kernel": (3, 3), "dilation": 100, "padding": 100, "size": (19, 18)}, SMALLER,
    ),
    "11 x 11, dilation 3": (
        OCCLUDED, {"kernel": (11, 11), "dilation": 3, "stride": 2, "padding": 15, "size": (33, 32)}, set(),
    ),
}  # fmt: skip


@pytest.mark.parametrize("arch", GENERATIONS)
@pytest.mark.parametrize("name", FAR)
def test_a_tile_fits_the_device_or_a_sentence_says_that_none_does(simt: ctypes.CDLL, name: str, arch: str) -> None:
    op, options, refused = FAR[name]
    arguments = SAMPLES[op][0].build(Maker(torch.float32, "cpu", "normal", "contiguous"), **options)
    become(simt, arch)
    if arch in refused:
        with pytest.raises(RuntimeError, match=r"expected filters .*whose reach fits shared memory"):
            call(op, arguments, "cuda")
    else:
        assert_within_budget(op, arguments, call(op, arguments, "cuda"))


def spread(tensor: torch.Tensor) -> torch.Tensor:
    """The same numbers, channels side by side, so far apart that a product of 32 bits goes wrong: 4 GB a row and more.

    The memory is reserved, not taken: only the pages with the numbers exist.
    """
    if tensor.numel() == 0 or tensor.dim() not in (2, 4) or tensor.dtype not in (torch.float32, torch.uint8):
        return tensor
    apart = (1 << 30, 1) if tensor.dim() == 2 else (1 << 36, 1, 1 << 32, 1 << 28)
    count = sum((size - 1) * step for size, step in zip(tensor.shape, apart, strict=True)) + 1
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000  # MAP_NORESERVE, which Python does not name
    memory = mmap.mmap(-1, count * tensor.element_size(), flags=flags)
    return torch.frombuffer(memory, dtype=tensor.dtype).as_strided(tensor.shape, apart).copy_(tensor)


@pytest.mark.parametrize("least_matrix_outputs", [1, 16])
@pytest.mark.parametrize("op", [op for op in SAMPLES if op.startswith(("window_", "occluded_"))])
def test_offsets_of_what_is_read_have_64_bits(simt: ctypes.CDLL, op: str, least_matrix_outputs: int) -> None:
    become(simt, least_matrix_outputs=least_matrix_outputs)
    sample = next(sample for sample in SAMPLES[op] if sample.layout == "channels_last")
    arguments = sample.arguments(torch.float32)
    near = call(op, arguments, "cuda")
    far = call(op, pytree.tree_map_only(torch.Tensor, spread, arguments), "cuda")
    assert_bits_equal(far, near)


def sampled(run: int, blocks: int) -> list[int]:
    """The blocks that the emulator runs of a grid, as ``sampled_block`` of block.cpp has them."""
    golden = 0.6180339887498949
    return [int((i // 4 * golden) % 1 * (blocks // 4)) * 4 + i % 4 for i in range(run)]


def assert_places(out: torch.Tensor, expected: torch.Tensor, places: list[tuple[slice, slice]]) -> None:
    """The blocks that ran wrote these rows and columns of ``out``, each row as ``expected`` [C] has it."""
    assert max(rows.start for rows, _ in places) * out.shape[1] > 2**31
    for rows, columns in places:
        assert torch.equal(out[rows, columns], expected[columns].expand_as(out[rows, columns])), (rows, columns)


@pytest.mark.parametrize("op", ["window_gather", "window_max_pool2d", "window_avg_pool2d"])
def test_offsets_of_what_is_written_have_64_bits(simt: ctypes.CDLL, op: str) -> None:
    """More than 2^31 numbers, a few blocks of which are made: 256 threads of 8 channels each."""
    channels, frame, run = 2048, (1300, 1000), 16
    layout = Layout.whole(torch.zeros(1, dtype=torch.int64), frame)
    expected = (torch.arange(channels) % 1000).half()
    windows = layout.windows(expected.expand(layout.cells, channels))
    simt.simt_sample(ctypes.c_int64(run))
    try:
        if op == "window_gather":
            out = ops.window_gather([windows], None, layout, backend="cuda")
        else:
            out = getattr(ops, op)(windows, None, 1, out_boxes=layout, backend="cuda")
    finally:
        simt.simt_sample(ctypes.c_int64(0))
    blocks = sampled(run, layout.cells)  # a cell each
    assert_places(out.values, expected, [(slice(block, block + 1), slice(None)) for block in blocks])


def test_numbers_of_threads_have_64_bits(simt: ctypes.CDLL) -> None:
    """More than 2^32 threads, of an odd number of channels: each makes one number."""
    channels, frame, run = 2047, (1650, 1500), 16
    layout = Layout.whole(torch.zeros(1, dtype=torch.int64), frame)
    expected = (torch.arange(channels) % 1000).half()
    try:
        torch.empty(layout.cells, channels, dtype=torch.half)
    except RuntimeError as error:
        pytest.skip(f"no room for 10 GB that nobody touches: {error}")
    simt.simt_sample(ctypes.c_int64(run))
    try:
        windows = layout.windows(expected.expand(layout.cells, channels))
        out = ops.window_max_pool2d(windows, None, 1, out_boxes=layout, backend="cuda").values.view(-1)
    finally:
        simt.simt_sample(ctypes.c_int64(0))
    firsts = [256 * block for block in sampled(run, math.ceil(out.numel() / 256))]
    assert max(firsts) > 2**32
    for first in firsts:
        assert torch.equal(out[first : first + 256], expected[torch.arange(first, first + 256) % channels])


def test_offsets_of_a_convolution_have_64_bits(simt: ctypes.CDLL) -> None:
    """On tensor cores: blocks of 64 cells by 64 outputs, as many as the filters take to be packed, which all run."""
    outputs, frame, run = 8192, (700, 600), 1024
    layout = Layout.whole(torch.zeros(1, dtype=torch.int64), frame)
    windows = layout.windows(torch.ones(1).half().expand(layout.cells, 8))
    bias = (torch.arange(outputs) % 1000).half()
    weight = torch.zeros(outputs, 8, 1, 1).half()
    simt.simt_sample(ctypes.c_int64(run))
    try:
        out = ops.window_conv2d(windows, None, weight, bias, out_boxes=layout, backend="cuda")
    finally:
        simt.simt_sample(ctypes.c_int64(0))
    across = math.ceil(layout.cells / 64)
    blocks = [divmod(block, across)[::-1] for block in sampled(run, across * (outputs // 64))]
    places = [(slice(64 * x, 64 * x + 64), slice(64 * y, 64 * y + 64)) for x, y in blocks]
    assert_places(out.values, bias, places)

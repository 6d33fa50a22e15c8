"""Slips in the CUDA kernels, which the emulator runs."""

from __future__ import annotations

from slips import Slip

CUDA = "csrc/cuda/"
POOL, CONV, OCCLUDED = "max_pool2d_with_switches", "window_conv2d", "occluded_conv2d"
STAGE, MAXIMA, MEANS = "unpool_relu_conv_transpose2d", "window_max_pool2d", "window_avg_pool2d"
GATHER, REDUCE = "window_gather", "window_reduce"
DEVICES = "tests/simt/test_devices.py"


def of(op: str, samples: str = "", dtype: str = "float16", test: str = "the_kernel_equals") -> str:
    """What -k picks: samples of an op, by default those that are not large."""
    return f"{test} and {op} and {dtype} and ({samples or 'not blocks'})"


def cores(op: str, samples: str = "", dtype: str = "float16") -> str:
    """The same, on tensor cores."""
    return of(op, samples, dtype, "tensor_cores_equal")


SLIPS = (
    Slip("a window's second tile is its first", CUDA + "window_tiles.cuh",
         "if (other >= 0) walk.tile = 1 + other - first;", "if (other >= 0) walk.tile = other - first;",
         OCCLUDED, of(OCCLUDED, "blocks or whole")),
    Slip("a tile's first cell by its own pitch", CUDA + "window_tiles.cuh",
         "            first + y * box.width + x,", "            first + y * size.columns + x,",
         OCCLUDED, of(OCCLUDED, "blocks or whole")),
    Slip("tiles of thin windows left out", CUDA + "window_tiles.cuh",
         "    tile += step;\n", "    tile += 2 * step;\n", OCCLUDED, of(OCCLUDED)),
    Slip("a cell's number in 32 bits", CUDA + "window_cells.cuh",
         "return a <= UINT32_MAX ? int64_t(uint32_t(a) / uint32_t(b)) : a / b;",
         "return int64_t(uint32_t(a) / uint32_t(b));", MAXIMA, "numbers_of_threads", DEVICES),
    Slip("the place of an output in 32 bits", CUDA + "window_conv2d_mma_kernel.cuh",
         "store_run(op.out + pixel * all_outputs + channel,", "store_run(op.out + int(pixel) * all_outputs + channel,",
         CONV, "convolution_have_64", DEVICES),
    Slip("no barrier before the cells are read", CUDA + "window_conv2d_mma_kernel.cuh",
         "    wait_copies<0>();\n    __syncthreads();\n", "    wait_copies<0>();\n",
         CONV, cores(CONV, "contiguous or found")),
    Slip("one group of copies is not waited for", CUDA + "window_conv2d_mma_kernel.cuh",
         "    wait_copies<0>();\n", "    wait_copies<1>();\n", CONV, cores(CONV, "contiguous or found")),
    Slip("channels of the next cell", CUDA + "window_conv2d_mma_kernel.cuh",
         "const bool valid = from && channel < channels;", "const bool valid = from && channel <= channels;",
         CONV, cores(CONV, "NaN or groups")),
    Slip("aligned by all outputs", CUDA + "window_conv2d_mma_kernel.cuh",
         "const bool aligned = op.outputs % Tile::kRun == 0;", "const bool aligned = all_outputs % Tile::kRun == 0;",
         CONV, cores(CONV, "groups_of_6")),
    Slip("a third of the split product", CUDA + "matrix_tile.cuh",
         "    multiply_all(small_sums_, small_a, large_b);\n", "", CONV, cores(CONV, "found", "float32")),
    Slip("infinity becomes NaN", CUDA + "matrix_tile.cuh",
         "return fabsf(large) < INFINITY ? both : large;", "return both;", CONV, cores(CONV, "NaN", "float32")),
    Slip("rows share a bank", CUDA + "matrix_tile.cuh",
         "(pack ^ (row >> 1 & 3)) * kPack;", "(pack ^ (row >> 2 & 3)) * kPack;",
         CONV, "whole_sectors and convolution", "tests/simt/test_traffic.py", "recorded"),
    Slip("blocks of outputs counted by groups", CUDA + "filters.cuh",
         "output += int(block % shape.blocks()) * shape.block;", "output += int(block % shape.groups) * shape.block;",
         OCCLUDED, of(OCCLUDED, "blocks or groups")),
    Slip("an output before the border is inside", CUDA + "occluded_conv2d_kernel.cuh",
         "const int last = room < 0 ? 0 : room / conv.stride - out + 1;",
         "const int last = room / conv.stride - out + 1;", OCCLUDED, of(OCCLUDED, "corner")),
    Slip("padding taken for the box", CUDA + "occluded_conv2d_kernel.cuh",
         "const int first = ceil_div(larger(at, 0) + conv.padding, conv.stride) - out;",
         "const int first = ceil_div(at + conv.padding, conv.stride) - out;", OCCLUDED, of(OCCLUDED, "hanging or far")),
    Slip("a patch is not made anew", CUDA + "occluded_conv2d_kernel.cuh",
         "if (!at_once || done == 0) {", "if (done == 0) {", OCCLUDED, of(OCCLUDED, "of_many_pixels", "float32")),
    Slip("the mask shows what it hides", CUDA + "occluded_conv2d_kernel.cuh",
         "if (!masked || !*masked) return clean;", "if (masked && *masked) return clean;",
         OCCLUDED, of(OCCLUDED, "masked and not blocks")),
    Slip("launched on the default stream", CUDA + "occluded_conv2d_kernel.cu",
         "pack_filters<Order::tap_channel_output>(source, shape, taps, stream);",
         "pack_filters<Order::tap_channel_output>(source, shape, taps, Stream{});",
         OCCLUDED, of(OCCLUDED, "contiguous")),
    Slip("the first row of a phase by truncation", CUDA + STAGE + "_fma_kernel.cuh",
         "corner.out_row = floor_mod(phase - y, op.conv.rows.stride);",
         "corner.out_row = (phase - y) % op.conv.rows.stride;", STAGE, of("window_unpool", "odd or non-square")),
    Slip("the last window is added", CUDA + STAGE + "_stage.cuh",
         "(op.last ? 0.f : cell[word * 4 + k])", "cell[word * 4 + k]", STAGE, of("window_unpool", "last")),
    Slip("switches staged with each part of the values", CUDA + STAGE + "_stage.cuh",
         "if (!op.switches || first % kSwitchDepth) return;", "if (!op.switches || first % kDepth) return;",
         STAGE, of("window_unpool", "neighbouring", "float32")),
    Slip("the right neighbour's switches", CUDA + STAGE + "_stage.cuh",
         "if (holds && codes.item[k] == code)", "if (row_holds && codes.item[k] == code)",
         STAGE, of(STAGE, "any_switches or dilation or pool_with")),
    Slip("a tile before its readers are done", CUDA + STAGE + "_fma_kernel.cuh",
         "    __syncthreads();  // nobody reads the tile before this one\n", "",
         STAGE, of("window_unpool", "tall", "float32")),
    Slip("the shift of another tap", CUDA + STAGE + "_mma_kernel.cuh",
         "const int shift = (rows.count - 1 - tap.row) * tiling.reach.rows * tiling.pitch +",
         "const int shift = tap.row * tiling.reach.rows * tiling.pitch +",
         STAGE, cores("window_unpool", "whole or many")),
    Slip("filters of the next chunk too early", CUDA + STAGE + "_mma_kernel.cuh",
         "if (left > 1)\n", "if (left > 2)\n", STAGE, cores("window_unpool", "whole or many")),
    Slip("a padded output is a maximum", CUDA + "window_max_pool2d_kernel.cuh",
         "      if (!op.cells.frames.has(y, x)) continue;\n", "", MAXIMA, of(MAXIMA)),
    Slip("padding does not count in the mean", "csrc/common/geometry.h",
         "return end - (first > -room ? first : -room);", "return end - (first > 0 ? first : 0);", MEANS, of(MEANS)),
    Slip("a source that comes later wins", CUDA + "window_gather_kernel.cuh",
         "for (int s = 0; s < count; ++s) {", "for (int s = count - 1; s >= 0; --s) {", GATHER, of(GATHER)),
    Slip("a share is lost", CUDA + "window_reduce_kernel.cuh",
         "for (int i = 1; i < kShares; ++i) Reduction", "for (int i = 1; i < kShares - 1; ++i) Reduction",
         REDUCE, of(REDUCE)),
    Slip("a zero counts where there is none", CUDA + "window_reduce_kernel.cuh",
         "cells < int64_t(frame.rows) * frame.columns", "cells <= int64_t(frame.rows) * frame.columns",
         REDUCE, of(REDUCE, "max")),
    Slip("the switch of an empty window", CUDA + POOL + "_kernel.cuh",
         "maxima(top * op.pool.columns.kernel + left);", "maxima;",
         POOL, of(POOL, "infinity")),
)  # fmt: skip

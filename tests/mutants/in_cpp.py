"""Slips in the C++ kernels."""

from __future__ import annotations

from slips import Slip

CPU = "csrc/cpu/"
POOL, UNPOOL, STAGE = "max_pool2d_with_switches", "max_unpool2d_with_switches", "unpool_relu_conv_transpose2d"
CONV, OCCLUDED, REDUCE, GATHER = "window_conv2d", "occluded_conv2d", "window_reduce", "window_gather"
SMALL = "tests/ops/test_small_caches.py"


def of(op: str, samples: str = "", dtype: str = "float32") -> str:
    """What -k picks: an op's samples."""
    alone = " and not window_unpool" if op == STAGE else ""
    return f"test_variant_equals and cpp and {op}{alone} and {dtype}" + (f" and ({samples})" if samples else "")


SLIPS = (
    Slip("of equal maxima the last", CPU + "max_pool_loops.h",
         "const auto more = other > value;", "const auto more = other >= value;", POOL, of(POOL, "ties")),
    Slip("a NaN in a row is not looked at again", CPU + "max_pool2d_with_switches_loops.h",
         "    if (has_nan<T>(best.sum)) best = pooled(std::false_type());\n", "", POOL, of(POOL, "NaN")),
    Slip("odd elements dealt out from the wrong place", CPU + "max_pool2d_with_switches_loops.h",
         "T* odd = to + (first + 1) % 2 * pitch + (first + 1) / 2;",
         "T* odd = to + (first + 1) % 2 * pitch + first / 2;", POOL, of(POOL, "wide")),
    Slip("windows in the padding taken for whole ones", CPU + "max_unpool2d_with_switches_kernel.cpp",
         "const int64_t room = cells + axis.padding - axis.extent();",
         "const int64_t room = cells + 2 * axis.padding - axis.extent();", UNPOOL, of(UNPOOL)),
    Slip("a pooling window too many covers a cell", "csrc/common/geometry.h",
         "return floor_div(cell + padding - extent() + stride, stride);",
         "return floor_div(cell + padding - extent() + 1, stride);", UNPOOL, of(UNPOOL)),
    Slip("windows around a crop forgotten", CPU + STAGE + "_kernel.cpp",
         "stage.sum ? 0 : (stage.pool[axis].extent() - 1) / stage.pool[axis].stride;",
         "stage.sum ? 0 : stage.pool[axis].extent() / stage.pool[axis].stride - 1;",
         STAGE, of("window_unpool", "last")),
    Slip("a crop's origin does not count", CPU + STAGE + "_loops.h",
         "return conv[axis].padding + unit.origin[axis] + (axis == 0 ? tile.rows.lo : 0);",
         "return conv[axis].padding + (axis == 0 ? tile.rows.lo : 0);",
         STAGE, of("window_unpool", "many_outputs")),
    Slip("the last window does not win", CPU + STAGE + "_unpool_loops.h",
         "          corner[place[*code]] = *value;", "          corner[place[*code]] += *value;",
         STAGE, of(STAGE, "last")),
    Slip("rows of a tile begin at the first", CPU + STAGE + "_loops.h",
         "stage.out_stride[0] + tile.rows.lo * stage.out_stride[1], rows,",
         "stage.out_stride[0], rows,", STAGE, "cpp and unpool_relu and not window_unpool and blocks", SMALL),
    Slip("NaN lost in the ReLU", CPU + "conv_tile_loops.h",
         "value = value < 0 ? Vector<T>{} : value;  // a NaN stays", "value = value > 0 ? value : Vector<T>{};",
         CONV, of(CONV, "NaN")),
    Slip("parts of a filter do not add up", CPU + "tile_conv2d.h",
         "tile.accumulate = tap > 0;", "tile.accumulate = tap > part;", CONV, "cpp and window_conv2d", SMALL),
    Slip("the bias with each part of a filter", CPU + "tile_conv2d.h",
         "tile.bias = finish && bias_ ?", "tile.bias = bias_ ?", CONV, "cpp and window_conv2d", SMALL),
    Slip("panels of the set before", CPU + "tile_conv2d.h",
         "pass(panels_[i], of_set + (i - first) * panel_size_, o, stop, table);",
         "pass(panels_[i], of_set + i * panel_size_, o, stop, table);", CONV, "cpp and window_conv2d", SMALL),
    Slip("a window's first column counted from the frame", CPU + "window_reads.h",
         "cells[x - left] = line + (x - box.left) * stride;", "cells[x - left] = line + (x - left) * stride;",
         CONV, of(CONV, "found or somewhere")),
    Slip("groups are told apart by nothing in packed weights", CPU + "packed_weights.h",
         "if (entry.groups == groups && entry.size == size &&", "if (entry.size == size &&",
         CONV, "fixed_weights", "tests/ops/test_window_conv2d.py"),
    Slip("a tile's last column reaches its first outputs", CPU + "winograd_loops.h",
         "to[0] = a - c;", "to[0] = a - d;", CONV, "a_cell_reaches", "tests/ops/test_window_conv2d.py"),
    Slip("tiles of a window's odd side left out", CPU + "winograd_conv2d.h",
         "const int64_t line = ceil_div(box.width, 2),", "const int64_t line = std::max<int64_t>(box.width / 2, 1),",
         CONV, "a_cell_reaches", "tests/ops/test_window_conv2d.py"),
    Slip("cells behind the box from one too few", CPU + "window_reduce_kernel.cpp",
         "reduction_.add(sum, after(n, y, width_ - box.right()));",
         "reduction_.add(sum, after(n, y, width_ - box.right() - (box.right() < width_)));", REDUCE, of(REDUCE)),
    Slip("a zero counts where there is none", CPU + "window_reduce_kernel.cpp",
         "else if (at.boxes[p].cells() < frame.area())", "else if (at.boxes[p].cells() <= frame.area())",
         REDUCE, of(REDUCE, "max")),
    Slip("the last source first", CPU + "window_gather_kernel.cpp",
         "for (auto source = sources_.rbegin(); source != sources_.rend(); ++source)",
         "for (auto source = sources_.begin(); source != sources_.end(); ++source)", GATHER, of(GATHER)),
    Slip("taps counted by floor", CPU + "occluded_squares.h",
         "taps_before_.push_back(ceil_div(d, op.layer_.columns.dilation));",
         "taps_before_.push_back(floor_div(d, op.layer_.columns.dilation));", OCCLUDED, of(OCCLUDED, "dilation")),
    Slip("sums of other columns used again", CPU + "occluded_squares.h",
         "if (!(taps == held_taps && run == held)) prepare(", "if (!(taps == held_taps)) prepare(",
         OCCLUDED, of(OCCLUDED)),
    Slip("the last parts are not rectified", CPU + "occluded_conv2d_loops.h",
         "if (j > 0) store_some(last, rectify(load_some(last, rest) + covered_after), rest);",
         "if (j > 0) store_some(last, load_some(last, rest) + covered_after, rest);", OCCLUDED, of(OCCLUDED)),
    Slip("the tail of a copy past the caches", CPU + "occluded_conv2d_loops.h",
         "std::memcpy(to + i, from + i, (count - i) * sizeof(T));",
         "std::memcpy(to + i, from + i, (count - i) / 2 * sizeof(T));", OCCLUDED, "cpp and occluded", SMALL),
)  # fmt: skip

"""Slips in the Triton kernels, which the interpreter runs."""

from __future__ import annotations

from slips import Slip

OPS = "zfkernels/ops/"
CELLS = OPS + "_triton_cells.py"
STAGE, FULL = "window_unpool_relu_conv_transpose2d", OPS + "unpool_relu_conv_transpose2d/"
EDGES, TILES = "tests/interpreted/test_window_edges.py", "tests/interpreted/test_tiles.py"
WIDE = "tests/interpreted/test_wide_offsets.py"


def kernel(op: str) -> str:
    return f"{OPS}{op}/triton_kernel.py"


def of(op: str, samples: str = "", others: str = "") -> str:
    """What -k picks: samples of an op."""
    named = f"kernel_equals and {op}" + (f" and ({samples})" if samples else "")
    return f"{named} and not {others}" if others else named


SLIPS = (
    Slip("cells of a window by its height", CELLS, "return has, first + row.to(INDEX) * width + column",
         "return has, first + row.to(INDEX) * height + column", pick=of("window_max_pool2d", "found or somewhere")),
    Slip("cells of a frame by its height", CELLS, "return has, (image * H + y) * W + x",
         "return has, (image * H + y) * H + x", pick=of("window_max_pool2d", "found or whole")),
    Slip("a hint that does not look at the rows", CELLS,
         "for number in (start, row * size, channels * size))", "for number in (start, channels * size))",
         pick="off_their_alignment", tests=EDGES),
    Slip("a hint for groups by all channels", kernel("window_conv2d"),
         "ALIGNED=aligned(values, frames, channels=in_group), RELU=relu, PRECISION",
         "ALIGNED=aligned(values, frames, channels=channels), RELU=relu, PRECISION",
         pick=of("window_conv2d", "groups")),
    Slip("the first filter of a group by its block", kernel("window_conv2d"),
         "filters_ptr = weight_ptr + (group * OG + column).to(INDEX) * (KH * KW * CG)",
         "filters_ptr = weight_ptr + (group * BLOCK_N + column).to(INDEX) * (KH * KW * CG)",
         pick=of("window_conv2d", "groups")),
    Slip("outputs of the next group", kernel("window_conv2d"),
         "    out = out_ptr + (cell * (tl.num_programs(2) * OG) + group * OG)[:, None] + column[None, :]\n"
         "    tl.store(out, total.to(out_ptr.dtype.element_ty), mask=live[:, None] & (column < OG)[None, :])",
         "    out = out_ptr + (cell * (tl.num_programs(2) * OG) + group * OG)[:, None] + column[None, :]\n"
         "    tl.store(out, total.to(out_ptr.dtype.element_ty), mask=live[:, None])",
         pick=of("window_conv2d", "found or groups")),
    Slip("channels of the next group", kernel("window_conv2d"),
         "mask=exists[:, None] & in_group[None, :], other=0.0)", "mask=exists[:, None], other=0.0)",
         pick=of("window_conv2d", "found or whole or NaN")),
    Slip("a depthwise filter reads its neighbour", kernel("window_conv2d"),
         "(column // TIMES)[None, :]", "(column % C)[None, :]", pick=of("window_conv2d", "depthwise")),
    Slip("a cell's number in 32 bits", kernel("window_conv2d"),
         "    cell = tl.program_id(0).to(INDEX) * BLOCK_M + tl.arange(0, BLOCK_M)",
         "    cell = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)", pick="have_64 and window_conv2d", tests=WIDE),
    Slip("a box that hangs over hides the padding", kernel("occluded_conv2d"),
         "bottom = tl.minimum(box_top + tl.load(box + 2), H)", "bottom = box_top + tl.load(box + 2)",
         pick=of("occluded_conv2d", "hanging or far or fill")),
    Slip("rows of images without half of the padding", kernel("occluded_conv2d"),
         "* (H + 2 * PH) + (top + PH))", "* (H + PH) + (top + PH))", pick=of("occluded_conv2d", "masked or images")),
    Slip("a fill is read where there is none", kernel("occluded_conv2d"),
         "                hidden = hidden & has\n                shown = of_fill", "                shown = of_fill",
         pick=of("occluded_conv2d", "windows")),
    Slip("what an earlier source had", kernel("window_gather"),
         "exists = exists | has", "exists = has", pick=of("window_gather", "sources")),
    Slip("one of many sources is lost", kernel("window_gather"),
         "last = [part[SOURCES - 1 :] for part", "last = [part[SOURCES:] for part",
         pick=of("window_gather", "sources")),
    Slip("zeros beyond the border", kernel("window_max_pool2d"),
         "value = tl.where((inside & ~exists)[:, None], 0.0, value)",
         "value = tl.where((~exists)[:, None], 0.0, value)",
         pick=of("window_max_pool2d", "no_frames or infinity")),
    Slip("a NaN is lost", kernel("window_reduce"),
         "lost = tl.max((total != total).to(tl.int32), 0) == 1", "lost = tl.max((total != total).to(tl.int32), 0) > 1",
         pick=of("window_reduce", "NaN")),
    Slip("a zero counts where there is none", kernel("window_reduce"),
         "(cells < FRAME) & (total < 0)", "(cells <= FRAME) & (total < 0)", pick=of("window_reduce", "infinity")),
    Slip("the divisor without padding", kernel("window_avg_pool2d"),
         "divisor *= covered(x * SW - PW, W, KW, PW if COUNT_PAD else 0)", "divisor *= covered(x * SW - PW, W, KW, 0)",
         pick=of("window_avg_pool2d", "pad or found")),
    Slip("no switch for minus infinity", kernel("max_pool2d_with_switches"),
         "((value > best) | (value != value) | (cell < 0))", "((value > best) | (value != value))",
         pick=of("max_pool2d", "infinity", "window_")),
    Slip("the first place of a phase", FULL + "triton_stages.py",
         'at(CONV, "padding") - (at(CONV, "phases") - 1) * DILATION', 'at(CONV, "padding")',
         pick=of("unpool_relu", "no_switches")),
    Slip("the first of overlapping windows wins", FULL + "triton_plan.py",
         "for cell in reversed(range(kernel))", "for cell in range(kernel)", pick=of("unpool_relu", "last")),
    Slip("blocks are left out that some phase has", FULL + "triton_plan.py",
         "            any(\n                has(down", "            all(\n                has(down",
         pick=of("unpool_relu", "odd or zfnet or stride")),
    Slip("taps of a band counted from the first", FULL + "triton_unpool.py",
         'row = at(band_y, "first") + tap // at(band_x, "tap_count")', 'row = tap // at(band_x, "tap_count")',
         pick=f"tiles_of and {STAGE}", tests=TILES),
    Slip("a switch that points out of the map", FULL + "triton_unpool.py",
         "exists = live & ((t * STRIDE + row).to(tl.uint32) < PIXELS)", "exists = live",
         pick=of("unpool_relu", "any_switches")),
    Slip("values around a crop count", FULL + "triton_unpool.py",
         "            if CROPPED and not LAST:\n", "            if CROPPED and LAST:\n",
         pick=of(STAGE, "found or last")),
)  # fmt: skip

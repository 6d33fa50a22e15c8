"""Samples of the ops on windows; see samples.py."""

from __future__ import annotations

from typing import Any

import torch

from support.maker import Maker, Pool
from support.sample import OVERLAPPING, POOLS, STRIDED, Arguments, Sample, listed, pooling, sliding
from zfkernels.geometry import Boxes, Pair
from zfkernels.windows import Layout


def _outputs(make: Maker, out: str, image: torch.Tensor, frame: Pair) -> Arguments:
    """The argument that says which outputs: those that the op finds, boxes somewhere, a layout, or whole frames."""
    if out == "default":
        return {}
    boxes = make.boxes(len(image), frame).flip(0).contiguous()
    if out == "somewhere":
        return {"out_boxes": boxes}
    return {"out_boxes": Layout.of(boxes, image, frame) if out == "layout" else Layout.whole(image, frame)}


def _geometry(options: Arguments) -> list[Any]:
    return [options.get(name, default) for name, default in (("stride", 1), ("padding", 0), ("dilation", 1))]


def _conv(
    make: Maker,
    size: Pair = (9, 8),
    kernel: Pair = (3, 3),
    channels: tuple[int, int] = (3, 4),
    images: int = 2,
    count: int = 13,
    groups: int = 1,
    out: str = "default",
    bias: bool = True,
    framed: bool = True,
    **options: Any,
) -> Arguments:
    frame = sliding(kernel, *_geometry(options)).output_size(size)
    windows = make.windows(count, channels[0], size, images)
    return {
        "windows": windows,
        "frames": make.maps(images, channels[0], *size) if framed else None,
        "weight": make.normal(channels[1], channels[0] // groups, *kernel),
        "bias": make.normal(channels[1]) if bias else None, "groups": groups,
        **options, **_outputs(make, out, windows.image, frame),
    }  # fmt: skip


def _max_pool(make: Maker, size: Pair, pool: Pool, dilated: bool = True, **options: Any) -> Arguments:
    kernel, stride, padding, dilation, ceil_mode = pool
    channels, images, count, out, framed = (
        options.pop(name, default)
        for name, default in (("channels", 3), ("images", 2), ("count", 13), ("out", "default"), ("framed", True))
    )
    windows = make.windows(count, channels, size, images)
    geometry = pooling(kernel, stride, padding, dilation)
    if not dilated:
        del geometry["dilation"]
    frame = sliding(kernel, stride, padding, dilation).output_size(size, ceil_mode)
    return {
        "windows": windows, "frames": make.maps(images, channels, *size) if framed else None, **geometry,
        "ceil_mode": ceil_mode, **options, **_outputs(make, out, windows.image, frame),
    }  # fmt: skip


def _avg_pool(make: Maker, size: Pair, pool: Pool, **options: Any) -> Arguments:
    return _max_pool(make, size, pool, dilated=False, **options)


def _occluded(
    make: Maker,
    size: Pair = (9, 8),
    kernel: Pair = (3, 3),
    channels: tuple[int, int] = (3, 4),
    images: int = 1,
    count: int = 13,
    groups: int = 1,
    fill: str = "number",
    masked: bool = False,
    out: str = "default",
    bias: bool = True,
    hanging: bool = False,
    far: bool = False,
    corner: bool = False,
    **options: Any,
) -> Arguments:
    boxes = make.boxes(count, size)
    if corner:  # and smaller than the kernel, in one direction or both
        boxes[:, :2] *= make.integers(0, 2, count, 2).int()
        boxes[:, 2:] = make.integers(1, max(kernel) + 2, count, 2).int()
    if hanging:  # over all borders
        boxes[:, :2] += make.integers(-3, 3, count, 2).int()
        boxes[:, 2:] += make.integers(0, 3, count, 2).int()
    if far:  # on all sides, some of them as large as to reach over the image all the same
        boxes[:, :2] += 1000 * make.integers(-1, 2, count, 2).int()
        boxes[::3, 2:] += 1995
    image = torch.arange(count, device=make.device) % max(images, 1)
    inside = Boxes.of(boxes, size).flat
    fills = {
        "number": lambda: 0.25,
        "channels": lambda: make.normal(channels[0]),
        "image": lambda: make.maps(images, channels[0], *size),
        "pixels": lambda: make.normal(count, channels[0]),
        "windows": lambda: make.windows(count, channels[0], size, images, inside),
        "other windows": lambda: make.windows(count, channels[0], size, images),
    }
    mask = None
    if masked:
        layout = Layout.of(inside, image, size)
        mask = layout.windows(make.integers(0, 2, layout.cells, 1).bool())
    frame = sliding(kernel, *_geometry(options)).output_size(size)
    return {
        "images": make.maps(images, channels[0], *size),
        "weight": make.normal(channels[1], channels[0] // groups, *kernel),
        "bias": make.normal(channels[1]) if bias else None,
        "boxes": boxes, "fill": fills[fill](), "mask": mask, "groups": groups,
        "image": None if images == 1 else image, **options, **_outputs(make, out, image, frame),
    }  # fmt: skip


def _conv_transpose(
    make: Maker,
    size: Pair,  # of the result: the input of the forward convolution
    kernel: Pair,
    pool: Pool | None = (2, None, 0, 1, False),
    channels: tuple[int, int] = (4, 3),  # of the values, of the result
    images: int = 2,
    count: int = 13,
    groups: int = 1,
    out: str = "default",
    framed: bool = False,
    overlap: str = "sum",
    **options: Any,
) -> Arguments:
    pooled = sliding(kernel, *_geometry(options)).output_size(size)
    switches, geometry = None, {}
    if pool is not None:
        switches = make.switches(images, channels[0], pooled, pool)
        pooled, geometry = (switches.shape[2], switches.shape[3]), pooling(*pool[:4], prefix="pool_")
    windows = make.windows(count, channels[0], pooled, images)
    return {
        "values": windows, "switches": switches,
        "weight": make.normal(channels[0], channels[1] // groups, *kernel),
        "frames": make.maps(images, channels[0], *pooled) if framed else None,
        "groups": groups, "output_size": size, "overlap": overlap, **geometry, **options,
        **_outputs(make, out, windows.image, size),
    }  # fmt: skip


def _gather(
    make: Maker,
    size: Pair = (9, 8),
    channels: int = 3,
    images: int = 2,
    count: int = 13,
    sources: tuple[int | None, ...] = (None,),  # windows of each source that are picked by row; None: one for each box
    out: str = "somewhere",
    framed: bool = True,
) -> Arguments:
    found: list[Any] = []
    for others in sources:
        if others is None:
            found.append(make.windows(count, channels, size, images))
        else:
            boxes = make.boxes(others, size).flip(0).contiguous()
            row = make.integers(0, max(others, 1), count)
            found.append((make.windows(others, channels, size, images, boxes), row))
    image = torch.arange(count, device=make.device) % max(images, 1)
    return {
        "sources": found,
        "frames": make.maps(images, channels, *size) if framed else None,
        "boxes": _outputs(make, out, image, size)["out_boxes"],
    }


def _reduce(
    make: Maker, size: Pair = (9, 8), channels: int = 3, images: int = 2, count: int = 13, how: str = "sum",
    framed: bool = True,
) -> Arguments:  # fmt: skip
    return {
        "windows": make.windows(count, channels, size, images),
        "frames": make.maps(images, channels, *size) if framed else None,
        "how": how,
    }


# Rows that most ops share; those that begin with "blocks" are too large for scalar loops.
_PLACES: list[tuple[Any, ...]] = [
    ("found", {}),
    ("whole frames", {"out": "whole"}),
    ("somewhere", {"out": "somewhere"}),
    ("no frames", {"framed": False}),
    ("four images", {"images": 4}),
    ("one window", {"count": 2}),
    ("no cells", {"count": 1}),
    ("no windows", {"count": 0}),
    ("no images", {"count": 0, "images": 0}),
]


def _placed(**options: Any) -> list[tuple[Any, ...]]:
    return [(name, {**options, **row}) for name, row in _PLACES]


_FILTERS: list[tuple[Any, ...]] = [
    ("odd size", {"size": (31, 33), "stride": 2}),
    ("without bias", {"bias": False, "relu": True}),
    ("non-square", {"kernel": (3, 2), "stride": (2, 1), "padding": (0, 1), "dilation": (1, 2)}),
    ("dilation", {"dilation": 3, "padding": 3}),
    ("stride above kernel", {"kernel": (2, 2), "stride": (4, 3)}),
    ("padding above kernel", {"kernel": (1, 2), "padding": 2}),
    ("1x1", {"kernel": (1, 1), "channels": (5, 2)}),
    ("groups", {"channels": (6, 4), "groups": 2}),
    ("depthwise", {"channels": (4, 8), "groups": 4}),
    ("32 channels, 32 groups", {"channels": (32, 32), "groups": 32, "padding": 1}),
    ("groups of 4 channels", {"channels": (24, 12), "groups": 6}),
    ("groups of 6 outputs", {"channels": (16, 12), "groups": 2}),
    ("groups of 12 outputs", {"channels": (32, 24), "groups": 2}),
    ("11x11", {"size": (25, 27), "kernel": (11, 11), "stride": 4, "padding": 2}),
    ("one cell", {"size": (1, 1), "kernel": (1, 1), "channels": (1, 1)}),
    ("NaN and infinity", {"size": (12, 11), "padding": 1, "relu": True}, "nonfinite"),
]

WINDOWS: dict[str, list[Sample]] = {
    "window_conv2d": listed(
        _conv,
        *_placed(padding=1, relu=True),
        *_FILTERS,
        ("blocks", {"size": (29, 28), "count": 40, "channels": (40, 70), "padding": 1}),
        ("blocks of 3x2 taps", {"size": (29, 28), "count": 40, "kernel": (3, 2), "channels": (40, 70), "padding": 1}),
        ("blocks of one channel each", {"size": (9, 8), "channels": (123, 123), "groups": 123, "padding": 1}),
        plain={"padding": 1, "out": "layout"},
    ),
    "window_max_pool2d": listed(
        _max_pool,
        *((name, {"size": size, "pool": pool}) for name, size, pool in POOLS),
        *_placed(size=(9, 8), pool=(3, 2, 1, 1, True)),
        ("ties", {"size": (9, 8), "pool": (3, 2, 1, 1, True)}, "ties"),
        ("NaN and infinity", {"size": (9, 8), "pool": (3, 2, 1, 1, True)}, "nonfinite"),
        ("minus infinity", {"size": (9, 8), "pool": (3, 2, 1, 1, True), "framed": False}, "minus infinity"),
        ("blocks", {"size": (29, 28), "pool": OVERLAPPING, "count": 40, "channels": 70}),
        plain={"size": (9, 8), "pool": OVERLAPPING, "out": "layout"},
    ),
    "window_avg_pool2d": listed(
        _avg_pool,
        *((name, {"size": size, "pool": pool}) for name, size, pool in POOLS if pool[3] == 1),
        *_placed(size=(9, 8), pool=(3, 2, 1, 1, True)),
        ("padding not counted", {"size": (9, 8), "pool": (3, 2, 1, 1, True), "count_include_pad": False}),
        ("own divisor", {"size": (9, 8), "pool": (3, 2, 1, 1, True), "divisor_override": 5}),
        ("NaN and infinity", {"size": (9, 8), "pool": (3, 2, 1, 1, True)}, "nonfinite"),
        ("blocks", {"size": (29, 28), "pool": OVERLAPPING, "count": 40, "channels": 70}),
        plain={"size": (9, 8), "pool": OVERLAPPING, "out": "layout"},
    ),
    "occluded_conv2d": listed(
        _occluded,
        *((name, row) for name, row in _placed(padding=1, relu=True) if "framed" not in row),
        *_FILTERS,
        ("inside of the square", {"size": (14, 15), "count": 60, "padding": 1}),
        ("in the corner", {"corner": True, "stride": 2, "size": (12, 11), "count": 40}),
        ("in the corner, padding", {"corner": True, "stride": 3, "padding": 1, "kernel": (5, 4), "count": 40}),
        ("hanging over", {"hanging": True, "padding": 2}),
        ("far away", {"far": True, "padding": 1, "out": "somewhere"}),
        ("far away, a fill for each", {"far": True, "padding": 1, "fill": "pixels", "out": "whole"}),
        *((f"fill {fill}", {"fill": fill, "images": 3, "hanging": True}) for fill in
          ("channels", "image", "pixels", "windows", "other windows")),
        *((f"masked {fill}", {"fill": fill, "images": 2, "masked": True, "padding": 1}) for fill in
          ("number", "channels", "image", "pixels", "windows", "other windows")),
        ("many channels of many pixels", {"size": (11, 10), "channels": (36, 3), "padding": 1, "count": 3,
                                          "fill": "image", "out": "whole"}),
        ("many taps of many pixels", {"size": (46, 45), "kernel": (11, 11), "stride": 4, "padding": 2, "count": 3,
                                      "fill": "image", "out": "whole"}),
        ("blocks", {"size": (45, 41), "kernel": (7, 7), "stride": 2, "padding": 1, "count": 40, "channels": (3, 70)}),
        ("blocks of large filters", {"size": (71, 69), "kernel": (11, 11), "stride": 4, "padding": 2, "count": 6,
                                     "fill": "channels"}),
        ("blocks masked", {"size": (25, 21), "stride": 2, "padding": 1, "count": 40, "masked": True,
                           "fill": "windows"}),
        plain={"padding": 1, "out": "layout", "fill": "image"},
    ),
    "window_unpool_relu_conv_transpose2d": listed(
        _conv_transpose,
        *_placed(size=(12, 11), kernel=(3, 3), pool=OVERLAPPING),
        ("odd size", {"size": (31, 33), **STRIDED}),
        ("frames", {"size": (12, 11), "kernel": (3, 3), "pool": OVERLAPPING, "framed": True}),
        ("frames last", {"size": (12, 11), "kernel": (3, 3), "pool": OVERLAPPING, "framed": True, "overlap": "last",
                         "out": "whole"}),
        ("overlapping last", {"size": (12, 11), "kernel": (3, 3), "pool": OVERLAPPING, "overlap": "last",
                              "out": "layout"}),
        ("dense overlap last", {"size": (9, 9), "kernel": (2, 2), "pool": (3, 1, 1, 1, False), "overlap": "last"}),
        ("not rectified", {"size": (12, 11), "kernel": (3, 3), "pool": OVERLAPPING, "rectify": False}),
        ("no switches", {"size": (9, 8), "pool": None, **STRIDED}),
        ("no switches, frames", {"size": (9, 8), "pool": None, "rectify": False, "framed": True, "out": "whole",
                                 **STRIDED}),
        ("groups", {"size": (9, 8), "kernel": (3, 3), "channels": (6, 4), "groups": 2}),
        ("groups of 6 outputs", {"size": (9, 8), "kernel": (3, 3), "channels": (8, 12), "groups": 2}),
        ("groups of 12 outputs", {"size": (9, 8), "kernel": (3, 3), "channels": (8, 24), "groups": 2}),
        ("depthwise", {"size": (9, 8), "kernel": (3, 3), "channels": (4, 4), "groups": 4}),
        ("non-square", {"size": (13, 11), "kernel": (3, 2), "stride": (2, 1), "padding": (0, 1), "dilation": (1, 2)}),
        ("pool with padding", {"size": (19, 18), "pool": (3, 2, 1, 1, True), **STRIDED}),
        ("pool with dilation", {"size": (12, 11), "kernel": (3, 3), "pool": (2, 2, 1, 2, False)}),
        ("stride above kernel", {"size": (14, 15), "kernel": (2, 2), "stride": (3, 4), "pool": (2, 1, 0, 1, False)}),
        ("many outputs", {"size": (19, 18), "pool": (3, 2, 0, 1, True), "channels": (5, 16), **STRIDED}),
        ("many outputs, stride above kernel", {"size": (30, 31), "kernel": (3, 3), "stride": (3, 4),
                                               "channels": (5, 16), "pool": (3, 2, 0, 1, True)}),
        ("many outputs, dilation", {"size": (24, 25), "kernel": (2, 3), "stride": (2, 3), "dilation": (3, 2),
                                    "channels": (5, 16), "pool": (3, 2, 0, 1, True)}),
        ("tall windows", {"size": (19, 6), "kernel": (3, 3), "channels": (20, 6), "count": 4, "out": "whole"}),
        ("one cell", {"size": (1, 1), "kernel": (1, 1), "pool": (1, 1, 0, 1, False), "channels": (1, 1)}),
        ("ties", {"size": (12, 11), "kernel": (3, 3), "pool": OVERLAPPING}, "ties"),
        ("ties last", {"size": (12, 11), "kernel": (3, 3), "pool": (3, 1, 1, 1, False), "overlap": "last"}, "ties"),
        ("NaN and infinity", {"size": (12, 11), "kernel": (3, 3), "pool": OVERLAPPING}, "nonfinite"),
        ("any switches", {"size": (14, 13), "pool": (3, 2, 1, 1, True), **STRIDED}, "junk"),
        ("neighbouring channels", {"size": (14, 13), "channels": (37, 3), "pool": (3, 2, 1, 1, True), **STRIDED},
         "normal", "channels_last"),
        ("blocks", {"size": (37, 41), "kernel": (3, 3), "channels": (70, 35), "padding": 1, "pool": OVERLAPPING}),
        plain={"size": (12, 11), "kernel": (3, 3), "out": "layout"},
    ),
    "window_gather": listed(
        _gather,
        *((name, row) for name, row in _PLACES if "out" in row or "framed" in row or "images" in row or "count" in row),
        ("two sources", {"sources": (None, None)}),
        ("picked by row", {"sources": (5,), "out": "layout"}),
        ("three sources", {"sources": (7, None, 3), "out": "layout", "framed": False}),
        ("five sources", {"sources": (None, 4, None, 7, 3), "out": "layout"}),
        ("frames alone", {"sources": (), "out": "layout"}),
        ("NaN and infinity", {"sources": (None, 4)}, "nonfinite"),
        ("blocks", {"size": (29, 28), "count": 40, "channels": 70, "sources": (None, 9)}),
        plain={"out": "layout", "sources": (None, 4)},
    ),
    "window_reduce": listed(
        _reduce,
        *((f"{name} {how}", {"how": how, **{key: value for key, value in row.items() if key != "out"}})
          for name, row in _PLACES for how in ("sum", "max") if "out" not in row),
        ("NaN and infinity", {}, "nonfinite"),
        ("NaN and infinity max", {"how": "max"}, "nonfinite"),
        ("minus infinity max", {"how": "max"}, "minus infinity"),
        ("minus infinity max, no frames", {"how": "max", "framed": False}, "minus infinity"),
        ("blocks", {"size": (29, 28), "count": 40, "channels": 70}),
        ("blocks max", {"size": (29, 28), "count": 40, "channels": 70, "how": "max"}),
        plain={},
    ),
}  # fmt: skip

"""One table of sample inputs per op: correctness, gradients, opcheck and compilation of every variant run over it.

``SAMPLES[op]`` lists the samples of an op; ``sample.arguments(dtype, device)`` builds the arguments of its public
function by name. The same sample holds the same numbers in every dtype, up to rounding, and on every device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from maker import Maker, Pool
from ragged_samples import RAGGED
from sample import DTYPES, OVERLAPPING, POOLS, STRIDED, Arguments, Sample, listed, pooling, sliding

from zfkernels.windows import Pair

__all__ = ["DTYPES", "POOLS", "SAMPLES", "Arguments", "Sample", "pooling", "sliding"]


def _max_pool(make: Maker, size: Pair, pool: Pool, images: int = 2, channels: int = 3) -> Arguments:
    return {"input": make.maps(images, channels, *size), **pooling(*pool[:4]), "ceil_mode": pool[4]}


def _max_unpool(
    make: Maker, size: Pair, pool: Pool, overlap: str = "sum", images: int = 2, channels: int = 3
) -> Arguments:
    switches = make.switches(images, channels, size, pool)
    values = make.maps(*switches.shape)
    return {
        "values": values, "switches": switches, **pooling(*pool[:4]), "output_size": size, "overlap": overlap
    }  # fmt: skip


def _pooled(build: Callable[..., Arguments], **options: Any) -> Iterator[tuple[Any, ...]]:
    for name, size, pool in POOLS:
        yield name, {"size": size, "pool": pool, **options}
    _, size, pool = POOLS[2]
    yield "empty batch", {"size": size, "pool": pool, "images": 0, **options}
    yield "blocks", {"size": (40, 37), "pool": pool, "channels": 67, **options}
    name, size, pool = POOLS[5]
    yield "blocks of channels", {"size": size, "pool": pool, "channels": 131, **options}, "nonfinite", "channels_last"


def _conv_transpose(
    make: Maker,
    size: Pair,  # of the result: the input of the forward convolution
    kernel: Pair,
    pool: Pool | None = (2, None, 0, 1, False),
    channels: tuple[int, int] = (4, 3),  # of the values, of the result
    images: int = 2,
    stride: int | Pair = 1,
    padding: int | Pair = 0,
    dilation: int | Pair = 1,
    groups: int = 1,
    window: Pair | None = None,
    count: int = 11,
    out: str = "default",
    **options: Any,
) -> Arguments:
    pooled = unpooled = sliding(kernel, stride, padding, dilation).output_size(size)
    switches, geometry = None, {}
    if pool is not None:
        switches = make.switches(images, channels[0], unpooled, pool)
        pooled, geometry = (switches.shape[2], switches.shape[3]), pooling(*pool[:4], prefix="pool_")
    if window is None:
        values = make.maps(images, channels[0], *pooled)
    else:
        values = make.windows(count, channels[0], window, pooled, images)
        options |= _outputs(make, out, count, size)
    return {
        "values": values, "switches": switches, "weight": make.normal(channels[0], channels[1] // groups, *kernel),
        "stride": stride, "padding": padding, "dilation": dilation, "groups": groups, "output_size": size,
        **geometry, **options,
    }  # fmt: skip


def _outputs(make: Maker, out: str, count: int, frame: Pair) -> Arguments:
    """Arguments that place the output windows: where the op puts them, the whole frame, or somewhere."""
    if out == "default":
        return {}
    if out == "whole frame":
        return {"out_size": frame}
    size = (min(3, frame[0]), min(4, frame[1]))
    return {"out_size": size, "out_origins": make.origins(count, size, frame)}


def _occluded(
    make: Maker,
    size: Pair = (9, 8),
    kernel: Pair = (3, 3),
    window: int | Pair = (3, 2),
    channels: tuple[int, int] = (3, 4),
    images: int = 1,
    count: int = 11,
    groups: int = 1,
    fill: str = "number",
    out: str = "default",
    bias: bool = True,
    **options: Any,
) -> Arguments:
    layer = sliding(kernel, *(options.get(name, d) for name, d in (("stride", 1), ("padding", 0), ("dilation", 1))))
    fills = {"number": 0.25, "channels": make.normal(channels[0]), "image": make.normal(images, channels[0], *size)}
    many = {} if images == 1 else {"image": torch.arange(count, device=make.device) % images}
    return {
        "images": make.maps(images, channels[0], *size),
        "weight": make.normal(channels[1], channels[0] // groups, *kernel),
        "bias": make.normal(channels[1]) if bias else None,
        "positions": make.origins(count, (1, 1), size),  # the square may hang over the border
        "window": window, "fill": fills[fill], "groups": groups,
        **many, **options, **_outputs(make, out, count, layer.output_size(size)),
    }  # fmt: skip


def _window_conv(
    make: Maker,
    size: Pair = (9, 8),
    kernel: Pair = (3, 3),
    window: Pair = (3, 2),
    channels: tuple[int, int] = (3, 4),
    images: int = 2,
    count: int = 11,
    groups: int = 1,
    out: str = "default",
    bias: bool = True,
    **options: Any,
) -> Arguments:
    layer = sliding(kernel, *(options.get(name, d) for name, d in (("stride", 1), ("padding", 0), ("dilation", 1))))
    return {
        "windows": make.windows(count, channels[0], window, size, images),
        "frames": make.maps(images, channels[0], *size),
        "weight": make.normal(channels[1], channels[0] // groups, *kernel),
        "bias": make.normal(channels[1]) if bias else None, "groups": groups,
        **options, **_outputs(make, out, count, layer.output_size(size)),
    }  # fmt: skip


def _window_pool(
    make: Maker,
    size: Pair,
    pool: Pool,
    window: Pair | None = None,
    channels: int = 3,
    images: int = 2,
    count: int = 11,
    out: str = "default",
) -> Arguments:
    kernel, stride, padding, dilation, ceil_mode = pool
    frame = sliding(kernel, stride, padding, dilation).output_size(size, ceil_mode)
    return {
        "windows": make.windows(count, channels, window or (min(3, size[0]), min(2, size[1])), size, images),
        "frames": make.maps(images, channels, *size),
        **pooling(*pool[:4]), "ceil_mode": ceil_mode, **_outputs(make, out, count, frame),
    }  # fmt: skip


SAMPLES: dict[str, list[Sample]] = {
    "max_pool2d_with_switches": listed(
        _max_pool,
        *_pooled(_max_pool),
        ("ties", {"size": (9, 9), "pool": OVERLAPPING}, "ties"),
        ("NaN and infinity", {"size": (9, 9), "pool": (3, 2, 1, 1, True)}, "nonfinite"),
        ("minus infinity", {"size": (5, 5), "pool": (3, 2, 1, 1, True)}, "minus infinity"),
        plain={"size": (8, 10), "pool": OVERLAPPING},
    ),
    "max_unpool2d_with_switches": listed(
        _max_unpool,
        *_pooled(_max_unpool),
        *((f"{row[0]} last", *row[1:]) for row in _pooled(_max_unpool, overlap="last")),
        ("any switches", {"size": (7, 8), "pool": (3, 2, 1, 1, True)}, "junk"),
        ("any switches last", {"size": (7, 8), "pool": (3, 2, 1, 1, True), "overlap": "last"}, "junk"),
        ("NaN and infinity", {"size": (9, 9), "pool": (3, 2, 1, 1, True)}, "nonfinite"),
        plain={"size": (8, 10), "pool": OVERLAPPING},
    ),
    "unpool_relu_conv_transpose2d": listed(
        _conv_transpose,
        ("odd size", {"size": (31, 33), **STRIDED}),
        ("zfnet 1", {"size": (25, 27), "kernel": (7, 7), "stride": 2, "padding": 1, "pool": (3, 2, 0, 1, True)}),
        ("overlapping", {"size": (12, 11), "kernel": (3, 3), "padding": 1, "pool": OVERLAPPING}),
        ("overlapping last", {"size": (12, 11), "kernel": (3, 3), "pool": OVERLAPPING, "overlap": "last"}),
        ("dense overlap last", {"size": (9, 9), "kernel": (2, 2), "pool": (3, 1, 1, 1, False), "overlap": "last"}),
        ("not rectified", {"size": (12, 11), "kernel": (3, 3), "pool": OVERLAPPING, "rectify": False}),
        ("no switches", {"size": (9, 8), "pool": None, **STRIDED}),
        ("no switches, not rectified", {"size": (9, 8), "pool": None, "rectify": False, **STRIDED}),
        ("groups", {"size": (9, 8), "kernel": (3, 3), "channels": (6, 4), "groups": 2}),
        ("depthwise", {"size": (9, 8), "kernel": (3, 3), "channels": (4, 4), "groups": 4}),
        ("non-square", {"size": (13, 11), "kernel": (3, 2), "stride": (2, 1), "padding": (0, 1), "dilation": (1, 2)}),
        ("pool with padding", {"size": (14, 13), "pool": (3, 2, 1, 1, True), **STRIDED}),
        ("pool with dilation", {"size": (12, 11), "kernel": (3, 3), "pool": (2, 2, 1, 2, False)}),
        ("pool by three", {"size": (13, 14), "kernel": (3, 3), "stride": 2, "pool": ((4, 3), (3, 2), 1, 1, True)}),
        ("stride above kernel", {"size": (14, 15), "kernel": (2, 2), "stride": (3, 4), "pool": (2, 1, 0, 1, False)}),
        ("one cell", {"size": (1, 1), "kernel": (1, 1), "pool": (1, 1, 0, 1, False), "channels": (1, 1)}),
        ("empty batch", {"size": (12, 11), "kernel": (3, 3), "images": 0}),
        ("ties", {"size": (12, 11), "kernel": (3, 3), "pool": OVERLAPPING}, "ties"),
        ("NaN and infinity", {"size": (12, 11), "kernel": (3, 3), "pool": OVERLAPPING}, "nonfinite"),
        ("any switches", {"size": (14, 13), "pool": (3, 2, 1, 1, True), **STRIDED}, "junk"),
        ("any switches, many maps", {"size": (14, 13), "kernel": (3, 3), "channels": (70, 3),
                                     "pool": (3, 2, 1, 1, True)}, "junk"),
        ("blocks", {"size": (37, 41), "kernel": (3, 3), "channels": (70, 35), "padding": 1, "pool": OVERLAPPING}),
        ("blocks of rows", {"size": (71, 22), "kernel": (7, 7), "channels": (20, 3), "padding": 1, "stride": 2,
                            "pool": OVERLAPPING}),
        ("blocks of channels", {"size": (21, 22), "kernel": (5, 5), "channels": (200, 3), "padding": 1, "stride": 2,
                                "pool": OVERLAPPING}),
        ("blocks of outputs", {"size": (23, 22), "kernel": (4, 5), "channels": (20, 200), "stride": (2, 3),
                               "dilation": (1, 2), "pool": OVERLAPPING}),
        ("blocks of channels and of outputs", {"size": (19, 18), "channels": (150, 200), "pool": OVERLAPPING,
                                               **STRIDED}),
        ("stride far above kernel", {"size": (103, 104), "kernel": (3, 3), "channels": (4, 16), "stride": 50,
                                     "pool": (2, 1, 0, 1, False)}),
        ("blocks of channels, groups", {"size": (21, 22), "kernel": (5, 5), "channels": (300, 6), "groups": 2}),
        *(
            (f"neighbouring channels, {name}", {"size": (14, 13), "channels": (37, 3), **STRIDED, **options}, pattern,
             "channels_last")
            for name, options, pattern in (
                ("disjoint", {"pool": (2, None, 0, 1, False)}, "normal"),
                ("disjoint with padding", {"pool": (2, None, 1, 1, True)}, "normal"),
                ("three by two", {"pool": ((3, 2), 2, (1, 0), 1, False), "channels": (33, 3)}, "normal"),
                ("two by three", {"pool": ((2, 3), 2, (0, 1), 1, True), "rectify": False}, "normal"),
                ("dense rows", {"pool": (3, (1, 2), 1, 1, False)}, "normal"),
                ("many outputs", {"pool": (3, 2, 1, 1, True), "channels": (37, 35)}, "normal"),
                ("NaN and infinity", {"pool": (3, 2, 1, 1, True), "stride": 1}, "nonfinite"),
                ("any switches", {"pool": (3, 2, 1, 1, True)}, "junk"),
                ("several blocks", {"pool": (3, 2, 1, 1, True), "channels": (200, 3)}, "normal"),
                ("groups", {"pool": (3, 2, 1, 1, True), "channels": (74, 6), "groups": 2}, "normal"),
                ("few", {"pool": (3, 2, 1, 1, True), "channels": (9, 3)}, "normal"),
                ("one block of outputs", {"pool": (3, 2, 1, 1, True), "channels": (20, 96)}, "normal"),
                ("several blocks of outputs", {"pool": (3, 2, 1, 1, True), "channels": (20, 200)}, "normal"),
                ("windows", {"pool": (3, 2, 1, 1, True), "window": (3, 2), "out": "somewhere"}, "normal"),
                ("disjoint windows", {"pool": (2, None, 0, 1, False), "window": (2, 3)}, "normal"),
            )
        ),
        *(
            (f"windows, {name}", {"size": (19, 18), "window": (2, 3), "pool": (3, 2, 0, 1, True), **STRIDED, **options})
            for name, options in {
                "default": {},
                "last": {"overlap": "last"},
                "whole frame": {"out": "whole frame"},
                "somewhere": {"out": "somewhere"},
                "somewhere last": {"out": "somewhere", "overlap": "last"},
                "one cell": {"window": (1, 1), "images": 3},
                "as large as the frame": {"window": (5, 4)},
                "no switches": {"pool": None},
                "not rectified": {"rectify": False},
                "groups": {"channels": (6, 4), "groups": 2},
                "disjoint pool": {"pool": (2, None, 0, 1, False)},
                "pool with padding": {"pool": (3, 2, 1, 1, True)},
                "dilation": {"dilation": 2, "kernel": (2, 3), "pool": (2, 2, 1, 2, False)},
                "stride above kernel": {"stride": 4, "size": (30, 31)},
                "many outputs": {"channels": (5, 16)},
                "many outputs, stride above kernel": {"channels": (5, 16), "stride": (3, 4), "size": (30, 31)},
                "many outputs, dilation": {"channels": (5, 16), "stride": (2, 3), "dilation": (3, 2), "kernel": (2, 3),
                                           "size": (24, 25)},
                "none": {"count": 0},
            }.items()
        ),
        ("windows, dense overlap last", {"size": (12, 11), "kernel": (3, 3), "window": (3, 3),
                                         "pool": (3, 1, 1, 1, False), "overlap": "last"}),
        ("windows, ties last", {"size": (12, 11), "kernel": (3, 3), "window": (3, 3), "pool": (3, 1, 1, 1, False),
                                "overlap": "last"}, "ties"),
        ("windows, NaN and infinity", {"size": (12, 11), "kernel": (3, 3), "window": (2, 2)}, "nonfinite"),
        ("windows, any switches", {"size": (14, 13), "pool": (3, 2, 1, 1, True), "window": (3, 2), **STRIDED}, "junk"),
        ("blocks of windows", {"size": (38, 37), "kernel": (5, 5), "channels": (70, 35), "window": (3, 4), "count": 70,
                               "pool": OVERLAPPING, "stride": 2}),
        plain={"size": (12, 11), "kernel": (3, 3), "pool": OVERLAPPING},
    ),
    "occluded_conv2d": listed(
        _occluded,
        ("odd size", {"size": (31, 33), "window": (7, 5), "stride": 2}),
        ("fill by channel", {"fill": "channels", "padding": 1}),
        ("fill by image", {"fill": "image", "padding": 1}),
        ("several images", {"images": 3, "relu": True}),
        ("several images, fill by image", {"images": 3, "fill": "image", "window": 4, "stride": 2}),
        ("without bias", {"bias": False, "relu": True}),
        ("inside of the square", {"size": (14, 15), "window": (9, 8), "count": 60, "padding": 1}),
        ("one pixel", {"window": 1, "stride": 2, "padding": 1}),
        ("whole image", {"window": (9, 8), "count": 5}),
        ("whole frame", {"out": "whole frame", "padding": 1}),
        ("somewhere", {"out": "somewhere"}),
        ("non-square", {"kernel": (3, 2), "stride": (2, 1), "padding": (0, 1), "dilation": (1, 2)}),
        ("dilation", {"dilation": 3, "padding": 3}),
        ("stride above kernel", {"kernel": (2, 2), "stride": (4, 3)}),
        ("padding above kernel", {"kernel": (1, 2), "padding": 2}),
        ("groups", {"channels": (6, 4), "groups": 2}),
        ("depthwise", {"channels": (4, 8), "groups": 4, "fill": "channels"}),
        ("one cell", {"size": (1, 1), "kernel": (1, 1), "window": 1, "channels": (1, 1)}),
        ("no positions", {"count": 0}),
        ("no images", {"count": 0, "images": 0}),
        ("NaN and infinity", {"size": (12, 11)}, "nonfinite"),
        ("blocks", {"size": (45, 41), "kernel": (7, 7), "stride": 2, "padding": 1, "window": 12, "count": 70,
                    "channels": (3, 70), "relu": True}),
        plain={"padding": 1},
    ),
    "window_conv2d": listed(
        _window_conv,
        ("odd size", {"size": (31, 33), "window": (7, 5), "stride": 2}),
        ("one image", {"images": 1, "relu": True}),
        ("several images", {"images": 4, "relu": True, "padding": 1}),
        ("without bias", {"bias": False, "relu": True}),
        ("one cell of the frame", {"window": (1, 1), "stride": 2, "padding": 1}),
        ("as large as the frame", {"window": (9, 8)}),
        ("as tall as the frame", {"window": (9, 2), "padding": 1}),
        ("whole frame", {"out": "whole frame", "padding": 1}),
        ("somewhere", {"out": "somewhere"}),
        ("non-square", {"kernel": (3, 2), "stride": (2, 1), "padding": (0, 1), "dilation": (1, 2)}),
        ("dilation", {"dilation": 3, "padding": 3}),
        ("stride above kernel", {"kernel": (2, 2), "stride": (4, 3)}),
        ("padding above kernel", {"kernel": (1, 2), "padding": 2}),
        ("1x1", {"kernel": (1, 1), "channels": (5, 2)}),
        ("groups", {"channels": (6, 4), "groups": 2}),
        ("depthwise", {"channels": (4, 8), "groups": 4}),
        ("one cell", {"size": (1, 1), "kernel": (1, 1), "window": (1, 1), "channels": (1, 1)}),
        ("no windows", {"count": 0}),
        ("no images", {"count": 0, "images": 0}),
        ("NaN and infinity", {"size": (12, 11), "padding": 1, "relu": True}, "nonfinite"),
        ("blocks", {"size": (29, 28), "window": (9, 8), "count": 70, "channels": (40, 70), "padding": 1}),
        plain={"padding": 1},
    ),
    "window_max_pool2d": listed(
        _window_pool,
        *((name, {"size": size, "pool": pool}) for name, size, pool in POOLS),
        ("as large as the frame", {"size": (9, 8), "pool": OVERLAPPING, "window": (9, 8)}),
        ("whole frame", {"size": (9, 8), "pool": (3, 2, 1, 1, True), "out": "whole frame"}),
        ("somewhere", {"size": (9, 8), "pool": (3, 2, 1, 1, True), "out": "somewhere"}),
        ("several images", {"size": (9, 8), "pool": (3, 1, 1, 1, False), "images": 4}),
        ("no windows", {"size": (9, 8), "pool": OVERLAPPING, "count": 0}),
        ("no images", {"size": (9, 8), "pool": OVERLAPPING, "count": 0, "images": 0}),
        ("ties", {"size": (9, 8), "pool": (3, 2, 1, 1, True)}, "ties"),
        ("NaN and infinity", {"size": (9, 8), "pool": (3, 2, 1, 1, True)}, "nonfinite"),
        ("minus infinity", {"size": (9, 8), "pool": (3, 2, 1, 1, True)}, "minus infinity"),
        ("blocks", {"size": (29, 28), "pool": OVERLAPPING, "window": (9, 8), "count": 70, "channels": 70}),
        plain={"size": (9, 8), "pool": OVERLAPPING},
    ),
    **RAGGED,
}  # fmt: skip

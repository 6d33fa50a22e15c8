"""One table of sample inputs per op: correctness, gradients, opcheck and compilation of every variant run over it.

``SAMPLES[op]`` lists the samples of an op; ``sample.arguments(dtype, device)`` builds the arguments of its public
function by name. The same sample holds the same numbers in every dtype, up to rounding, and on every device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from support.maker import Maker, Pool
from support.sample import DTYPES, OVERLAPPING, POOLS, STRIDED, Arguments, Sample, listed, pooling, sliding
from support.window_samples import WINDOWS
from zfkernels.geometry import Pair

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
    **options: Any,
) -> Arguments:
    pooled = unpooled = sliding(kernel, stride, padding, dilation).output_size(size)
    switches, geometry = None, {}
    if pool is not None:
        switches = make.switches(images, channels[0], unpooled, pool)
        pooled, geometry = (switches.shape[2], switches.shape[3]), pooling(*pool[:4], prefix="pool_")
    return {
        "values": make.maps(images, channels[0], *pooled), "switches": switches,
        "weight": make.normal(channels[0], channels[1] // groups, *kernel),
        "stride": stride, "padding": padding, "dilation": dilation, "groups": groups, "output_size": size,
        **geometry, **options,
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
        ("any switches, odd width", {"size": (8, 7), "pool": (3, 2, 1, 1, True)}, "junk"),
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
            )
        ),
        plain={"size": (12, 11), "kernel": (3, 3), "pool": OVERLAPPING},
    ),
    **WINDOWS,
}  # fmt: skip

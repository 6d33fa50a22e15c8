"""One sample of an op's arguments, and what the tables of samples share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from support.maker import LAYOUTS, Maker, Pool
from zfkernels.geometry import Pair, Sliding

DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
Arguments = dict[str, Any]


@dataclass(frozen=True)
class Sample:
    """Arguments of one op; ``pattern`` and ``layout`` are those of its maps, ``large`` is too slow for scalar loops."""

    name: str
    build: Callable[..., Arguments]
    options: Arguments = field(default_factory=dict)
    pattern: str = "normal"
    layout: str = "contiguous"
    large: bool = False

    def arguments(self, dtype: torch.dtype, device: str = "cpu") -> Arguments:
        return self.build(Maker(dtype, device, self.pattern, self.layout), **self.options)


def listed(build: Callable[..., Arguments], *rows: tuple[Any, ...], plain: Arguments) -> list[Sample]:
    """Rows ``(name, options)``, or with a pattern or also a layout, and ``plain`` in all layouts and patterned."""
    found = [Sample(row[0], build, row[1], *row[2:], large=row[0].startswith("blocks")) for row in rows]
    layouts = [Sample(layout, build, plain, layout=layout) for layout in LAYOUTS]
    return [*layouts, *(Sample(pattern, build, plain, pattern) for pattern in ("ones", "arange")), *found]


# Geometries of poolings: name, size of the maps, (kernel, stride, padding, dilation, ceil_mode).
POOLS: list[tuple[str, Pair, Pool]] = [
    ("disjoint", (8, 6), (2, None, 0, 1, False)),
    ("overlapping", (31, 33), (3, 2, 0, 1, False)),
    ("overlapping ceil", (8, 10), (3, 2, 0, 1, True)),
    ("overlapping dense", (7, 6), (3, 1, 1, 1, False)),
    ("non-square", (9, 7), ((3, 2), (2, 1), (1, 0), 1, False)),
    ("padding ceil", (7, 8), (3, 2, 1, 1, True)),
    ("dilation", (11, 9), (2, 1, 1, (3, 2), False)),
    ("stride above kernel", (9, 11), (2, (3, 4), 0, 1, False)),
    ("stride above kernel ceil", (9, 11), (2, (3, 5), 1, 1, True)),
    ("one cell", (1, 1), (1, 1, 0, 1, False)),
    ("one row", (1, 9), ((1, 3), 2, 0, 1, False)),
    ("ceil, a window in the padding", (5, 8), (3, 3, 1, 1, True)),
    ("wide", (4, 70), (3, 2, 1, 1, True)),
    ("256 cells", (18, 17), (16, 1, 8, 1, False)),
]


def pooling(kernel: Any, stride: Any, padding: Any, dilation: Any, prefix: str = "") -> Arguments:
    names = ("kernel_size", "stride", "padding", "dilation")
    return {prefix + name: value for name, value in zip(names, (kernel, stride, padding, dilation), strict=True)}


def sliding(kernel: Any, stride: Any, padding: Any, dilation: Any) -> Sliding:
    def pair(value: Any) -> Pair:
        return value if isinstance(value, tuple) else (value, value)

    return Sliding(pair(kernel), pair(kernel if stride is None else stride), pair(padding), pair(dilation))


STRIDED = {"kernel": (3, 3), "stride": 2, "padding": 1}
OVERLAPPING = (3, 2, 0, 1, False)

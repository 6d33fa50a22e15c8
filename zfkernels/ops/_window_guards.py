"""What the registered ops on windows check of their flat tensors: see :mod:`zfkernels.ops._guards`.

Shapes and dtypes; the numbers inside (boxes, offsets, images) are checked by the C++ kernels and by the package's own
functions on a CPU, and nowhere on a GPU, where looking at them would stop the queue.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from zfkernels.geometry import Pair
from zfkernels.ops import _checks as check
from zfkernels.ops import _window_arguments as arguments


def places(op: str, values: Any, boxes: Any, offsets: Any, image: Any, dtypes: Any = check.FLOATING) -> None:
    """Windows: values [cells, C], boxes [P, 4], offsets [P + 1], image [P]."""
    check.tensor(op, "values", values, "[cells, C]", dtypes)
    arguments.places(op, "windows", boxes, offsets, image, values)


def windows(op: str, *, values: Any, boxes: Any, offsets: Any, image: Any, frames: Any, frame: Pair, **_: Any) -> None:
    """Windows and what lies around them."""
    places(op, values, boxes, offsets, image)
    around(op, frames, values, frame)


def around(op: str, value: Tensor | None, values: Tensor, frame: Pair) -> None:
    """Frames [N, C, H, W] around windows, or None."""
    if value is not None:
        check.tensor(op, "frames", value, "[N, C, H, W]")
        check.same(op, "frames", value, "values", values)
        check.equal(op, "frames' channels and size", tuple(value.shape[1:]), (values.shape[1], *frame))


def outputs(op: str, *, image: Tensor, out_boxes: Any, out_offsets: Any, owner: Any, cells: int, **_: Any) -> None:
    """Where results lie: out_boxes [P, 4], out_offsets [P + 1], owner [cells]."""
    arguments.places(op, "out", out_boxes, out_offsets, image, image)
    check.tensor(op, "owner", owner, "[cells]", (torch.int32,))
    check.equal(op, "the shape of owner", tuple(owner.shape), (cells,))

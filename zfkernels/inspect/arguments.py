"""Numbers for the arguments of a headline case that have memory."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from zfkernels.inspect.cases import Case
from zfkernels.inspect.ragged_cases import RaggedCase
from zfkernels.windows import Sliding


def numbers(case: Case, flat: tuple[Any, ...], *, maps: bool = True) -> tuple[Any, ...]:
    """Fills the arguments of a case: maps (or not) with normal numbers, switches with cells, places with places."""
    device = next(part.device for part in flat if isinstance(part, Tensor))
    generator = torch.Generator(device).manual_seed(0)
    if isinstance(case, RaggedCase):
        for tensor in pytree.tree_leaves(flat):
            if isinstance(tensor, Tensor) and tensor.is_floating_point() and maps:
                tensor.normal_(generator=generator)
            elif isinstance(tensor, Tensor) and tensor.dtype == torch.uint8:
                tensor.random_(flat[12][0] * flat[12][1], generator=generator)
        case.fill(flat, generator)
        return flat
    for position, value in enumerate(flat):
        if not isinstance(value, Tensor):
            continue
        if value.is_floating_point():
            if maps:
                value.normal_(generator=generator)
        elif value.dtype == torch.uint8:
            value.random_(flat[6][0] * flat[6][1], generator=generator)
        elif value.dtype == torch.int64:
            value.zero_()
        else:
            value.random_(_room(case, flat, position) + 1, generator=generator)
    return flat


def _room(case: Case, flat: tuple[Any, ...], position: int) -> int:
    """The largest row and column where windows (or what they make) can start in their frame, which is square."""
    if case.op == "unpool_relu_conv_transpose2d":
        frame, size = (flat[1].shape[2], flat[0].shape[2]) if position == 3 else (flat[15][0], flat[15][0])
    elif case.op == "occluded_conv2d":
        layer = Sliding(tuple(flat[1].shape[2:]), *flat[9:12])
        frame, size = (
            (flat[0].shape[2], flat[6][0]) if position == 3 else (layer.output_size(flat[0].shape[2:])[0], flat[8][0])
        )  # fmt: skip
    else:
        pooling = case.op == "window_max_pool2d"
        kernel = flat[4] if pooling else tuple(flat[4].shape[2:])
        layer, out_size = Sliding(kernel, *flat[7 if pooling else 8 :][:3]), flat[6 if pooling else 7]
        frame, size = flat[3].shape[2], flat[0].shape[2]
        if position != 1:
            frame, size = layer.output_size(flat[3].shape[2:])[0], out_size[0]
    return max(frame - size, 0)

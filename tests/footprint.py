"""Which pixels reach which cells, by brute force: a NaN in a pixel turns every cell that depends on it into NaN."""

from __future__ import annotations

import functools

import torch
from torch import Tensor
from toys import SIZE, toy

from zfkernels.trace import Trace, trace_model
from zfkernels.windows import Boxes, Pair


@torch.no_grad()
def footprints(trace: Trace, size: Pair, channels: int = 3) -> dict[str, Tensor]:
    """For each step with maps, bool [H, W, h, w]: whether pixel (y, x) reaches cell (i, j) of any map."""
    count = size[0] * size[1]
    images = torch.rand(count, channels, *size, dtype=torch.float64) + 0.1
    images.transpose(0, 1).flatten(2)[:, torch.arange(count), torch.arange(count)] = torch.nan
    values = trace.run(images, [step.name for step in trace.steps if step.layout])
    found = {}
    for step in trace.steps:
        value = values.get(step.name)
        if isinstance(value, Tensor) and value.dim() == 4 and len(value) == count:
            maps = value if step.layout == "NCHW" else value.permute(0, 3, 1, 2)
            found[step.name] = maps.isnan().any(1).view(*size, *maps.shape[2:])
    return found


def bounding_boxes(masks: Tensor) -> Boxes:
    """The smallest boxes that hold what is true in ``masks`` [P, h, w]; empty ones are all zeros."""
    lo, hi = [], []
    for mask in masks:
        rows, columns = mask.any(1).nonzero().flatten().tolist(), mask.any(0).nonzero().flatten().tolist()
        lo.append([rows[0], columns[0]] if rows else [0, 0])
        hi.append([rows[-1] + 1, columns[-1] + 1] if rows else [0, 0])
    return Boxes(torch.tensor(lo), torch.tensor(hi))


@functools.cache
def toy_footprints(name: str) -> dict[str, Tensor]:
    """The footprints of one of the small networks."""
    return footprints(trace_model(toy(name)), SIZE)

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
    for other in (2, 1):
        hit = masks.any(other)  # [P, rows], then [P, columns]
        places = torch.arange(hit.shape[1])
        lo.append(torch.where(hit, places, hit.shape[1]).amin(1))
        hi.append(torch.where(hit, places + 1, 0).amax(1))
    some = (hi[0] > 0)[:, None]
    return Boxes(torch.stack(lo, 1) * some, torch.stack(hi, 1))


@functools.cache
def toy_footprints(name: str) -> dict[str, Tensor]:
    """The footprints of one of the small networks."""
    return footprints(trace_model(toy(name), SIZE), SIZE)

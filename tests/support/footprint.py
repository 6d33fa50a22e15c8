"""Which pixels reach which cells, by brute force: a NaN in a pixel turns every cell that depends on it into NaN."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from support.toys import SIZE, toy
from zfkernels.geometry import Boxes, Pair
from zfkernels.network import record
from zfkernels.network.program import Program


@torch.no_grad()
def footprints(program: Program, size: Pair, channels: int = 3) -> dict[str, Tensor]:
    """For each step with maps, bool [H, W, h, w]: whether pixel (y, x) reaches cell (i, j) of any map."""
    count = size[0] * size[1]
    images = torch.rand(count, channels, *size, dtype=torch.float64) + 0.1
    images.transpose(0, 1).flatten(2)[:, torch.arange(count), torch.arange(count)] = torch.nan
    found = {}
    for name, value in program.run(images, list(program.kinds)).items():
        maps = program.kinds[name].maps
        if maps is not None and len(value) == count and value.is_floating_point():
            found[name] = maps.frames(value).isnan().any(1).view(*size, *maps.frame)
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
    return footprints(Program(record(toy(name), (3, *SIZE)), fold=False), SIZE)


def assert_boxes(found: Boxes, expected: Boxes, exact: bool, name: str) -> None:
    """Equal, or at least as large."""
    empty = (expected.hi == 0).all(1, keepdim=True)
    assert (empty | (found.lo <= expected.lo)).all(), name
    assert (empty | (found.hi >= expected.hi)).all(), name
    if exact:
        assert torch.equal(found.lo.expand_as(expected.lo), expected.lo), name
        assert torch.equal(found.hi.expand_as(expected.hi), expected.hi), name

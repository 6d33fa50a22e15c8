"""The tiles that a GPU runs, on windows small enough for the interpreter: every one of each kind of GPU.

The other interpreted tests take larger tiles, which take an interpreter less time.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from support.samples import SAMPLES
from test_kernels import assert_right

from zfkernels.ops import _triton_launch, registered

TURING, AMPERE, HOPPER = 75, 80, 90
HALF, BRAIN, FULL = torch.float16, torch.bfloat16, torch.float32
CONV, OCCLUDED, STAGE = "window_conv2d", "occluded_conv2d", "window_unpool_relu_conv_transpose2d"
GPUS = (TURING, AMPERE, HOPPER)

# Samples with several tiles of cells, ends of blocks in each direction and each kind of operands; the GPUs.
CHOSEN: list[tuple[str, str, torch.dtype, tuple[int, ...]]] = [
    (CONV, "found", HALF, GPUS), (CONV, "groups of 12 outputs", BRAIN, (AMPERE, HOPPER)),
    (CONV, "odd size", FULL, GPUS), (CONV, "32 channels, 32 groups", HALF, (HOPPER,)),
    (OCCLUDED, "found", HALF, GPUS), (OCCLUDED, "11x11", FULL, GPUS), (OCCLUDED, "masked windows", BRAIN, (HOPPER,)),
    (STAGE, "found", HALF, (AMPERE, HOPPER)), (STAGE, "frames last", FULL, (HOPPER,)),
    ("window_max_pool2d", "whole frames", HALF, (HOPPER,)),
    ("window_avg_pool2d", "whole frames", BRAIN, (HOPPER,)),
    ("window_gather", "three sources", HALF, (HOPPER,)),
    ("window_reduce", "found sum", HALF, (HOPPER,)),
    ("window_reduce", "four images max", FULL, (HOPPER,)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("op", "name", "dtype", "capability"),
    [
        pytest.param(op, name, dtype, gpu, id=f"{op}-{name.replace(' ', '_')}-sm_{gpu}")
        for op, name, dtype, gpus in CHOSEN
        for gpu in gpus
    ],
)
def test_tiles_of_a_gpu(
    op: str, name: str, dtype: torch.dtype, capability: int, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    module = sys.modules[registered()[op].variants["triton"].load().__module__]
    offered: list[Any] = []

    def choose(turn: int, tiles: Sequence[Any]) -> Any:
        offered[:] = tiles
        return tiles[turn]

    monkeypatch.setattr(_triton_launch, "INTERPRETED", False)
    monkeypatch.setattr(_triton_launch, "_capability_of", lambda device: capability)
    if op == STAGE:
        monkeypatch.setattr(sys.modules[module.tiles.__module__], "INTERPRETED", False)
    arguments = next(sample for sample in SAMPLES[op] if sample.name == name).arguments(dtype)
    turn = 0
    while turn == 0 or turn < len(offered):
        if hasattr(module, "choose"):
            monkeypatch.setattr(module, "choose", lambda key, tiles, *rest, turn=turn: choose(turn, tiles))
        assert_right(op, arguments)
        turn += 1

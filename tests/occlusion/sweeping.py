"""What the tests of sweeps on windows share: the sweep of a recorded network, and rates that leave no choice."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from zfkernels.network.record import record
from zfkernels.occlusion.cost import Rates
from zfkernels.occlusion.engine import WindowSweep

# Windows cost nothing: all that can run on windows does.
ON_WINDOWS = Rates(windows=1e30, frames=1.0, memory=1e30, call=0.0, budget=2**26)
# Frames cost nothing but multiply-adds: whole frames as soon as the cut may lie there.
ON_FRAMES = Rates(windows=1.0, frames=1e30, memory=1e30, call=0.0, budget=2**26)


def squares(positions: Tensor, window: tuple[int, int]) -> Tensor:
    """int64 [P, 4]: boxes of the size ``window`` at ``positions`` [P, 2]."""
    return torch.cat([positions, torch.tensor(window).expand(len(positions), 2)], 1)


def sweep_of(model: nn.Module, images: Tensor, boxes: Tensor, **options: Any) -> WindowSweep:
    return WindowSweep(record(model, images), boxes, **options)

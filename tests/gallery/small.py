"""A network with a dead map, and the options of a small gallery."""

from __future__ import annotations

import torch
from torch import nn

from zfkernels.models import Preprocess

SIZE = 20
SMALL = Preprocess(size=SIZE, resize=SIZE)
LAYERS = ("0", "1", "4")
DEAD = 2  # a map of layer "1" that never fires
OPTIONS = {"layers": LAYERS, "preprocess": SMALL, "workers": 0, "progress": False, "top_k": 4}


def small_network() -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 5, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Conv2d(5, 6, 3, padding=1), nn.ReLU()
    )
    with torch.no_grad():
        model[0].bias[DEAD] = -100
        model[3].weight[1:] *= (torch.rand(5, 5, 3, 3) > 0.5).float()
    return model.eval()


def other_network() -> nn.Sequential:
    """The same network with another weight: another run."""
    model = small_network()
    with torch.no_grad():
        model[3].bias[0] += 1e-3
    return model

"""Networks of which tests count what is launched: the geometry is a network's own, its arithmetic next to nothing."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

CHANNELS = 2


def narrow(name: str) -> nn.Module:
    """A network of torchvision with CHANNELS channels in each layer."""
    models = pytest.importorskip("torchvision.models")
    with torch.device("meta"):
        model = models.get_model(name, weights=None, num_classes=5)
    for parent in list(model.modules()):
        for key, child in list(parent.named_children()):
            if isinstance(child, nn.Conv2d):
                inputs = min(child.in_channels, 3) if child.in_channels == 3 else CHANNELS
                conv = nn.Conv2d(inputs, CHANNELS, child.kernel_size, child.stride, child.padding)
                setattr(parent, key, conv)
            elif isinstance(child, nn.BatchNorm2d):
                setattr(parent, key, nn.BatchNorm2d(CHANNELS))
            elif isinstance(child, nn.Linear):
                cells = {25088: 49 * CHANNELS, 9216: 36 * CHANNELS}.get(child.in_features, CHANNELS)
                setattr(parent, key, nn.Linear(cells, child.out_features if child.out_features < 9 else CHANNELS))
    return model.eval()


class Branches(nn.Module):
    """Steps that keep constants, gather, resample and join."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm, self.one = nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3, padding=1)
        self.last, self.places = nn.Linear(8, 5), nn.Buffer(torch.randn(1, 4, 48, 48))

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(self.stem(x).relu()) * 2.0
        up = nn.functional.interpolate(nn.functional.avg_pool2d(h, 2), scale_factor=2, mode="bilinear")
        h = torch.cat([h + self.one(h).relu() + self.places, up], 1)
        return self.last(nn.functional.softplus(h).mean((2, 3)))

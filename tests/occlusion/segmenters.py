"""Networks whose outputs are maps, small: a U-Net with batch normalisation, torchvision's, and one with two heads."""

from __future__ import annotations

from typing import Any

import torch
from support import zoo
from torch import Tensor, nn


class Block(nn.Sequential):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True),
        )  # fmt: skip


class UNet(nn.Module):
    """A few levels, transposed convolutions upwards; [N, classes, H, W]."""

    def __init__(self, channels: int = 3, classes: int = 4, width: int = 4, levels: int = 3) -> None:
        super().__init__()
        sizes = [width * 2**level for level in range(levels)]
        self.down = nn.ModuleList([Block(i, o) for i, o in zip([channels, *sizes], sizes, strict=False)])
        self.up = nn.ModuleList([nn.ConvTranspose2d(sizes[n + 1], sizes[n], 2, 2) for n in reversed(range(levels - 1))])
        self.across = nn.ModuleList([Block(2 * sizes[n], sizes[n]) for n in reversed(range(levels - 1))])
        self.last, self.pool = nn.Conv2d(width, classes, 1), nn.MaxPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        kept = []
        for block in self.down:
            x = block(self.pool(x) if kept else x)
            kept.append(x)
        for up, across, skip in zip(self.up, self.across, reversed(kept[:-1]), strict=True):
            x = across(torch.cat([skip, up(x)], 1))
        return self.last(x)


class TwoHeads(nn.Module):
    """A dictionary of maps and scores."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.head = UNet(), nn.Linear(4, 5)

    def forward(self, x: Tensor) -> dict[str, Any]:
        maps = self.net(x)
        return {"maps": maps, "scores": [self.head(maps.mean((2, 3)))]}


def woken(model: nn.Module, images: Tensor) -> nn.Module:
    """The network with drawn parameters and calibrated normalisation, float64, eval mode."""
    torch.manual_seed(0)
    return zoo.wake(model.double().eval(), images)


def segmenter(name: str, images: Tensor) -> nn.Module:
    """A network by name; those of torchvision have narrow backbones by nature or small images."""
    if name == "unet":
        return woken(UNet(), images)
    if name == "two heads":
        return woken(TwoHeads(), images)
    from torchvision.models import segmentation

    return woken(segmentation.__dict__[name](weights=None, weights_backbone=None, num_classes=3), images)

"""Occlude a segmentation network

You get: which parts of an image decide how large a segmented area is.
"""

# %% [markdown]
# ## A network that has to look around
#
# Bright cells lie on a noisy ground. A cell with a dark nucleus belongs to the class, all of its pixels. Other cells do
# not. A small U-Net learns this in seconds.

# %%
import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import nn

import zfkernels as zf


def block(inputs, outputs):
    layers = [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(outputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU())


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.down = nn.ModuleList([block(1, 8), block(8, 16), block(16, 32)])
        self.up = nn.ModuleList([block(48, 16), block(24, 8)])
        self.last = nn.Conv2d(8, 2, 1)

    def forward(self, x):
        fine = self.down[0](x)
        middle = self.down[1](F.max_pool2d(fine, 2))
        x = self.down[2](F.max_pool2d(middle, 2))
        for layer, skip in zip(self.up, (middle, fine), strict=True):
            x = layer(torch.cat([skip, F.interpolate(x, scale_factor=2.0)], 1))
        return self.last(x)  # [N, 2, H, W]


def scan(generator):
    """An image [1, 64, 64] of five cells, two of them with a nucleus, and the class of each pixel, int64 [64, 64]."""
    image, label = torch.rand(1, 64, 64, generator=generator) * 0.3, torch.zeros(64, 64, dtype=torch.int64)
    cell = torch.arange(64)
    for number, place in enumerate(torch.randperm(9, generator=generator)[:5].tolist()):
        middle = torch.tensor([11 + 21 * (place // 3), 11 + 21 * (place % 3)])
        distance = ((cell[:, None] - middle[0]) ** 2 + (cell - middle[1]) ** 2).sqrt()
        image[0, distance < 9] += 0.6
        if number % 2:
            image[0, distance < 3] -= 0.6
            label[distance < 9] = 1
    return image, label


torch.manual_seed(0)
generator, model = torch.Generator().manual_seed(0), UNet()
optimizer = torch.optim.Adam(model.parameters(), 1e-2)
for _ in range(60):
    images, labels = (torch.stack(part) for part in zip(*(scan(generator) for _ in range(6)), strict=True))
    optimizer.zero_grad()
    F.cross_entropy(model(images), labels).backward()
    optimizer.step()
model.eval()

# %% [markdown]
# ## The area under the square
#
# `reduce=` says what is kept of the output at each place of the square: here the number of pixels of each class. The
# output maps themselves, one for each place, are never stored. One sweep has two fills: as bright as a cell, and as
# dark as the ground.

# %%
image, label = scan(generator)
fills, area = torch.tensor([[0.75], [0.15]]), zf.occlusion.class_area()  # [fills, channels]
sweep = zf.occlusion_sweep(model, image[None], window=7, stride=1, fill=fills, reduce=area)
clean = float(sweep.clean[0, 1])
change = sweep.outputs[:, 0, ..., 1] - clean  # [2, 58, 58]: fill, row and column of the grid
print(f"{clean:.0f} of {int(label.sum())} pixels; lost at most {-change.min():.0f}, won at most {change.max():.0f}")

figure, panels = plt.subplots(1, 4, figsize=(12, 3.2), layout="constrained")
panels[0].imshow(image[0], cmap="gray")
panels[1].imshow(model(image[None])[0].argmax(0), cmap="gray")
for panel, values in zip(panels[2:], change, strict=True):
    heat = panel.imshow(values, cmap="RdBu", vmin=-250, vmax=250, extent=(3, 61, 61, 3))
for panel, title in zip(panels, ("image", "segmented", "bright square", "dark square"), strict=True):
    panel.set(xlim=(0, 64), ylim=(64, 0), xticks=[], yticks=[], title=title, facecolor="0.9")
figure.colorbar(heat, ax=panels, label="pixels won")
figure.savefig("segmentation.png", dpi=150)

# %% [markdown]
# ![The image, its segments, and the pixels won and lost under two squares](../made/segmentation/segmentation.png)
#
# *Red: a bright square over a nucleus removes the whole cell from the class, far beyond the square. Blue: the network
# takes a dark square inside a cell for a nucleus, and adds the whole cell to the class.*
#
# ## Next
#
# `region_mean`, `dice` and `largest_probability` are other reducers. A function of yours can be one too
# ([reference](../reference/methods.md)).

"""Projections on whole frames: what a careful user would write with PyTorch, one batch of signals for many units."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class FullFrames:
    """Whole frames down an nn.Sequential of convolutions, rectifiers and pools; one forward pass for all units."""

    def __init__(self, features: nn.Sequential, layer: int, images: Tensor) -> None:
        self.modules, self.pools, self.sizes = list(features)[: layer + 1], {}, []
        for index, module in enumerate(self.modules):
            self.sizes.append(images.shape[2:])
            if isinstance(module, nn.MaxPool2d):
                images, self.pools[index] = F.max_pool2d(
                    images, module.kernel_size, module.stride, module.padding, return_indices=True
                )
            else:
                images = module(images)
        self.top = images

    def project(self, units: Tensor) -> Tensor:
        """[P, 3, H, W] of units int64 [P, 4] (image, channel, row, column)."""
        image, channel, row, column = units.unbind(1)
        signal = self.top.new_zeros((len(units), *self.top.shape[1:]))
        index = torch.arange(len(units), device=units.device)
        signal[index, channel, row, column] = self.top[image, channel, row, column]
        for module, size, number in reversed(list(zip(self.modules, self.sizes, range(len(self.sizes)), strict=True))):
            if isinstance(module, nn.Conv2d):
                whole = [(signal.shape[2 + a] - 1) * module.stride[a] - 2 * module.padding[a] for a in (0, 1)]
                rest = [size[a] - whole[a] - module.kernel_size[a] for a in (0, 1)]
                signal = F.conv_transpose2d(signal, module.weight, None, module.stride, module.padding, rest)
            elif isinstance(module, nn.MaxPool2d):  # the exact adjoint: colliding values are summed
                flat = signal.new_zeros((*signal.shape[:2], size[0] * size[1]))
                flat.scatter_add_(2, self.pools[number][image].flatten(2), signal.flatten(2))
                signal = flat.view(*signal.shape[:2], *size)
            elif isinstance(module, nn.ReLU):
                signal = signal.relu()
        return signal

"""The first layers of an occlusion sweep against occluding whole images and running the layers on them."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from zfkernels.ops import occluded_conv2d, window_conv2d, window_max_pool2d
from zfkernels.windows import Windows


def occluded(images: Tensor, boxes: Tensor, fill: float, image: Tensor) -> Tensor:
    """The occluded images, [P, C, H, W]."""
    whole = images[image].clone()
    for p, (top, left, height, width) in enumerate(boxes.tolist()):
        whole[p, :, top : top + height, left : left + width] = fill
    return whole


def test_a_chain_of_windows_is_the_network_on_occluded_images() -> None:
    images = torch.rand(2, 3, 33, 30, dtype=torch.float64)
    first, second = (torch.randn(*shape, dtype=torch.float64) for shape in ((5, 3, 5, 3), (4, 5, 3, 3)))
    bias = torch.randn(5, dtype=torch.float64)
    rows, columns = torch.meshgrid(torch.arange(0, 33, 4), torch.arange(0, 30, 3), indexing="ij")
    boxes = torch.stack([rows.flatten(), columns.flatten()], 1)
    boxes = torch.cat([boxes, torch.tensor([6, 5]).expand_as(boxes)], 1)
    image = torch.arange(len(boxes)) % 2

    def network(images: Tensor) -> list[Tensor]:
        one = F.conv2d(images, first, bias, (2, 1), (1, 2)).relu()
        two = F.max_pool2d(one, 3, 2, ceil_mode=True)
        return [one, two, F.conv2d(two, second, None, padding=1)]

    clean, dense = network(images), network(occluded(images, boxes, 0.5, image))
    sweep: list[Windows] = []
    options: Any = {"stride": (2, 1), "padding": (1, 2), "relu": True}
    sweep.append(occluded_conv2d(images, first, bias, boxes, fill=0.5, image=image, **options))
    sweep.append(window_max_pool2d(sweep[0], clean[0], 3, 2, ceil_mode=True))
    sweep.append(window_conv2d(sweep[1], clean[1], second, padding=1))
    for windows, frames, expected in zip(sweep, clean, dense, strict=True):
        assert windows.layout.cells < len(windows) * windows.frame[0] * windows.frame[1]
        torch.testing.assert_close(windows.paste(frames), expected, rtol=1e-10, atol=1e-10)


def test_one_image_needs_no_index_and_boxes_may_be_int32() -> None:
    images, weight = torch.randn(1, 2, 9, 9), torch.randn(3, 2, 3, 3)
    boxes = torch.tensor([[0, 0, 3, 3], [5, 7, 3, 3], [8, 8, 3, 3]])
    a = occluded_conv2d(images, weight, None, boxes)
    b = occluded_conv2d(images, weight, None, boxes.int(), image=torch.zeros(3, dtype=torch.int64))
    assert torch.equal(a.values, b.values)
    assert torch.equal(a.boxes, b.boxes)
    assert a.image.tolist() == [0, 0, 0]
    assert a.frame == (7, 7)

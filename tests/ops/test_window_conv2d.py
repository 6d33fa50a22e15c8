"""The promise that weights are fixed, which the C++ convolution of windows uses."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from zfkernels.ops import fixed_weights, window_conv2d
from zfkernels.windows import Windows

pytestmark = pytest.mark.cpp

ORIGINS, IMAGE = torch.zeros(5, 2, dtype=torch.int32), torch.zeros(5, dtype=torch.int64)
WINDOWS = Windows.of(torch.ones(5, 4, 2, 3), ORIGINS, IMAGE, (9, 8))
FRAMES = torch.ones(2, 4, 9, 8)


def test_fixed_weights_are_told_apart_and_forgotten() -> None:
    """The same memory read as other weights is not taken for the first; a change shows once the promise has ended."""

    def convolve(weight: Tensor) -> Tensor:
        return window_conv2d(WINDOWS, FRAMES, weight, padding=1).values

    square = torch.randn(4, 4, 3, 3)
    views = [square, square.transpose(0, 1), square.transpose(2, 3), square[:2], square[:, :, :1]]
    expected = [convolve(view) for view in views]
    with fixed_weights():
        for view, right in zip([*views, *views], [*expected, *expected], strict=True):
            assert convolve(view).equal(right)
        with fixed_weights():
            assert convolve(square.double().float()).equal(expected[0])
    square.mul_(2)
    torch.testing.assert_close(convolve(square), 2 * expected[0])
    with fixed_weights():
        torch.testing.assert_close(convolve(square), 2 * expected[0])


def test_fixed_weights_of_one_group_are_not_those_of_two() -> None:
    """The same weight for four channels, and for eight in two groups."""
    weight = torch.arange(4 * 4 * 3 * 3).remainder(7).float().view(4, 4, 3, 3)
    wide = Windows.of(torch.ones(5, 8, 2, 3), ORIGINS, IMAGE, (9, 8))

    def convolve(groups: int) -> Tensor:
        windows, frames = (WINDOWS, FRAMES) if groups == 1 else (wide, torch.ones(2, 8, 9, 8))
        return window_conv2d(windows, frames, weight, padding=1, groups=groups).values

    expected = [convolve(1), convolve(2)]
    for order in ((0, 1), (1, 0)):
        with fixed_weights():
            for index in order:
                assert convolve(index + 1).equal(expected[index])

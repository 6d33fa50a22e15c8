"""The C++ convolution of windows: the promise that weights are fixed, and filters of 3 x 3 in tiles of outputs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from zfkernels.ops import fixed_weights, window_conv2d
from zfkernels.windows import Layout, Windows

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


@pytest.mark.parametrize("padding", [0, 1, 2])
def test_a_cell_reaches_no_output_but_those_that_read_it(padding: int) -> None:
    """Tiles read 4 x 4 cells for 2 x 2 outputs; a NaN must not spread over its tile."""
    sizes = torch.tensor([[17, 16], [16, 15], [1, 9], [19, 18], [2, 2]], dtype=torch.int32)
    origins = torch.tensor([[0, 0], [3, 2], [18, 11], [1, 2], [18, 18]], dtype=torch.int32)
    layout = Layout.of(torch.cat([origins, sizes], 1), torch.zeros(5, dtype=torch.int64), (20, 20))
    generator = torch.Generator().manual_seed(0)
    cells, frames, weight = (
        torch.randn(shape, dtype=torch.float64, generator=generator)
        for shape in ((layout.cells, 33), (1, 33, 20, 20), (40, 33, 3, 3))
    )
    cells[::41] = float("nan")
    frames[0, 5, ::7, ::5] = float("nan")
    found, right = (
        window_conv2d(layout.windows(cells), frames, weight, padding=padding, backend=backend).values
        for backend in ("cpp", "reference")
    )
    assert len(right) >= 512
    torch.testing.assert_close(found, right, rtol=1e-11, atol=1e-11, equal_nan=True)

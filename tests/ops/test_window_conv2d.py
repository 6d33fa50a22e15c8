"""Convolution of windows against pasting, convolving the whole and cropping; what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from comparing import assert_refused
from maker import windows_of_ones
from samples import Sample
from torch import Tensor
from variants import samples

from zfkernels.ops import fixed_weights, window_conv2d

OP = "window_conv2d"
FINITE = {s.values[1].name for s in samples([OP])} - {"NaN and infinity", "somewhere", "no images"}


@pytest.mark.parametrize(("op", "sample"), samples([OP], FINITE))
def test_the_windows_hold_all_that_the_input_windows_change(op: str, sample: Sample) -> None:
    arguments = sample.arguments(torch.float64)
    result = window_conv2d(**arguments)
    names = ("stride", "padding", "dilation", "groups")
    geometry = {name: arguments[name] for name in names if name in arguments}
    relu = torch.relu if arguments.get("relu") else lambda maps: maps

    def convolve(maps: Tensor) -> Tensor:
        return relu(F.conv2d(maps, arguments["weight"], arguments["bias"], **geometry))

    expected = convolve(arguments["windows"].paste(arguments["frames"]))
    torch.testing.assert_close(result.paste(convolve(arguments["frames"])), expected, rtol=1e-10, atol=1e-10)
    assert result.image is arguments["windows"].image


BASE = {"windows": windows_of_ones(), "frames": torch.ones(2, 4, 9, 8), "weight": torch.ones(6, 4, 3, 3)}


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"windows": torch.ones(5, 4, 2, 3)}, TypeError, "windows a zfkernels.Windows, got Tensor"),
        ({"windows": windows_of_ones(values=None)}, TypeError, "windows.values a tensor [P, C, h, w], got NoneType"),
        ({"windows": windows_of_ones(values=torch.ones(5, 4, 2, 3).int())}, TypeError,
         "windows.values of dtype float16, bfloat16, float32, float64, got torch.int32"),
        ({"windows": windows_of_ones(origins=torch.zeros(5, 2).long())}, TypeError,
         "windows.origins of dtype int32, got torch.int64"),
        ({"windows": windows_of_ones(origins=torch.zeros(5, 2, device="meta").int())}, ValueError,
         "windows.origins on the device of windows.values, cpu, got meta"),
        ({"windows": windows_of_ones(image=torch.zeros(5, 1).long())}, ValueError,
         "windows.image of shape [P], got (5, 1)"),
        ({"windows": windows_of_ones(image=torch.zeros(5, device="meta").long())}, ValueError,
         "windows.image on the device of windows.values, cpu, got meta"),
        ({"windows": windows_of_ones(frame=(9.0, 8.0))}, TypeError,
         "windows.frame an int or a pair of ints, got (9.0, 8.0)"),
        ({"windows": windows_of_ones(frame=(1, 8))}, ValueError,
         "windows no larger than their frame (1, 8), got (2, 3)"),
        ({"frames": None}, TypeError, "frames a tensor [N, C, H, W], got NoneType"),
        ({"frames": torch.ones(2, 4, 9, 8).double()}, TypeError,
         "frames of the dtype of windows, torch.float32, got torch.float64"),
        ({"frames": torch.ones(2, 4, 9, 9)}, ValueError, "frames' channels and size (4, 9, 8), got (4, 9, 9)"),
        ({"frames": torch.ones(2, 3, 9, 8)}, ValueError, "frames' channels and size (4, 9, 8), got (3, 9, 8)"),
        ({"weight": 1.0}, TypeError, "weight a tensor [C_out, C / groups, kh, kw], got float"),
        ({"weight": torch.ones(6, 2, 3, 3)}, ValueError, "weight's second dimension, channels / groups, 4, got 2"),
        ({"weight": torch.ones(6, 4, 3, 9)}, ValueError,
         "frames large enough for one output of Sliding(kernel=(3, 9), stride=(1, 1), padding=(0, 0), dilation=(1, 1)),"
         " got (9, 8)"),
        ({"bias": torch.ones(1, 6)}, ValueError, "bias of shape [C_out], got (1, 6)"),
        ({"bias": torch.ones(5)}, ValueError, "bias's shape (6,), got (5,)"),
        ({"out_size": (3, 0)}, ValueError, "out_size at least 1, got (3, 0)"),
        ({"out_size": 7}, ValueError, "out_size no larger than the output (7, 6), got (7, 7)"),
        ({"out_size": "7"}, TypeError, "out_size an int or a pair of ints, got '7'"),
        ({"out_origins": [0, 0]}, TypeError, "out_origins a tensor [P, 2], got list"),
        ({"out_origins": torch.zeros(5, 2)}, TypeError, "out_origins of dtype int32, got torch.float32"),
        ({"out_origins": torch.zeros(4, 2).int()}, ValueError, "the shape of out_origins (5, 2), got (4, 2)"),
        ({"out_origins": torch.zeros(5, 2, device="meta").int()}, ValueError,
         "out_origins on the device of the windows, cpu, got meta"),
        ({"stride": 0}, ValueError, "stride at least 1, got 0"),
        ({"padding": -2}, ValueError, "padding at least 0, got -2"),
        ({"dilation": (1, 1, 1)}, TypeError, "dilation an int or a pair of ints, got (1, 1, 1)"),
        ({"groups": 4}, ValueError, "groups a divisor of 4 and 6 channels, got 4"),
        ({"relu": None}, TypeError, "relu a bool, got None"),
    ],
)  # fmt: skip
def test_bad_arguments(changes: dict[str, Any], error: type, message: str) -> None:
    assert_refused(window_conv2d, BASE | changes, error, message)


def test_fixed_weights_are_told_apart_and_forgotten() -> None:
    """The same memory read as other weights is not taken for the first; a change shows once the promise has ended."""

    def convolve(weight: Tensor) -> Tensor:
        return window_conv2d(BASE["windows"], BASE["frames"], weight, padding=1).values

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

"""Max-pooling of windows against pasting, pooling the whole and cropping, to the bit; what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from comparing import assert_bits_equal, assert_refused
from maker import windows_of_ones
from samples import DTYPES, Sample
from torch import Tensor
from variants import samples

from zfkernels.ops import window_max_pool2d

OP = "window_max_pool2d"
COVERING = {s.values[1].name for s in samples([OP])} - {"somewhere", "no images"}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("op", "sample"), samples([OP], COVERING))
def test_the_windows_hold_all_that_the_input_windows_change(op: str, sample: Sample, dtype: torch.dtype) -> None:
    arguments = sample.arguments(dtype)
    result = window_max_pool2d(**arguments)
    names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")

    def pool(maps: Tensor) -> Tensor:
        return F.max_pool2d(maps, *(arguments[name] for name in names))

    pasted = arguments["windows"].paste(arguments["frames"])
    expected = pool(pasted) if len(pasted) else pasted.new_empty(0, pasted.shape[1], *result.frame)
    assert_bits_equal([result.paste(pool(arguments["frames"]))], [expected])
    assert result.image is arguments["windows"].image


BASE = {"windows": windows_of_ones(), "frames": torch.ones(2, 4, 9, 8), "kernel_size": 3}


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"windows": None}, TypeError, "windows a zfkernels.Windows, got NoneType"),
        ({"windows": windows_of_ones(values=torch.ones(5, 4, 0, 3))}, ValueError,
         "windows.values [P, C, h, w] with nothing but the first empty, got (5, 4, 0, 3)"),
        ({"windows": windows_of_ones(origins=torch.zeros(5, 3).int())}, ValueError,
         "the shape of windows.origins (5, 2), got (5, 3)"),
        ({"windows": windows_of_ones(image=torch.zeros(5).int())}, TypeError,
         "windows.image of dtype int64, got torch.int32"),
        ({"frames": torch.ones(4, 9, 8)}, ValueError, "frames of shape [N, C, H, W], got (4, 9, 8)"),
        ({"frames": torch.ones(2, 4, 8, 8)}, ValueError, "frames' channels and size (4, 9, 8), got (4, 8, 8)"),
        ({"frames": torch.ones(2, 4, 9, 8, device="meta")}, ValueError,
         "frames on the device of windows, cpu, got meta"),
        ({"kernel_size": None}, TypeError, "kernel_size an int or a pair of ints, got None"),
        ({"kernel_size": 10}, ValueError,
         "frames large enough for one output of Sliding(kernel=(10, 10), stride=(10, 10), padding=(0, 0), "
         "dilation=(1, 1)), got (9, 8)"),
        ({"kernel_size": (257, 1)}, ValueError,
         "kernel_size of at most 256 cells (a switch is one byte), got (257, 1)"),
        ({"stride": 0}, ValueError, "stride at least 1, got 0"),
        ({"padding": 2}, ValueError, "padding at most half of the kernel (3, 3), got (2, 2)"),
        ({"dilation": False}, TypeError, "dilation an int or a pair of ints, got False"),
        ({"ceil_mode": None}, TypeError, "ceil_mode a bool, got None"),
        ({"out_size": (4, 2)}, ValueError, "out_size no larger than the output (3, 2), got (4, 2)"),
        ({"out_origins": torch.zeros(5, 2).long()}, TypeError, "out_origins of dtype int32, got torch.int64"),
    ],
)  # fmt: skip
def test_bad_arguments(changes: dict[str, Any], error: type, message: str) -> None:
    assert_refused(window_max_pool2d, BASE | changes, error, message)

"""One DeconvNet stage against PyTorch's own layers and their backward; what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from support.comparing import assert_refused
from support.maker import laid_out
from torch import Tensor

from zfkernels.ops import max_pool2d_with_switches, registered, unpool_relu_conv_transpose2d

OP = "unpool_relu_conv_transpose2d"


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("rectify", [True, False])
@pytest.mark.parametrize("ceil_mode", [True, False])
@pytest.mark.parametrize(
    ("stride", "padding", "dilation", "groups"), [(1, 1, 1, 1), (2, 1, 1, 2), (1, (2, 0), (1, 2), 4)]
)
def test_is_the_backward_of_convolution_and_pooling_with_another_relu(
    stride: Any, padding: Any, dilation: Any, groups: int, ceil_mode: bool, rectify: bool
) -> None:
    image = torch.randn(2, 4, 17, 15, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(8, 4 // groups, 3, 2, dtype=torch.float64)
    maps = F.conv2d(image, weight, None, stride, padding, dilation, groups)
    maps.retain_grad()
    if rectify:
        maps.register_hook(torch.relu)  # what comes down through the pooling is rectified there
    pooled = F.max_pool2d(maps, 3, 2, ceil_mode=ceil_mode)
    values = torch.randn_like(pooled)
    (expected,) = torch.autograd.grad(pooled, image, values)
    _, switches = max_pool2d_with_switches(maps, 3, 2, ceil_mode=ceil_mode)
    actual = unpool_relu_conv_transpose2d(
        values, switches, weight, pool_kernel_size=3, pool_stride=2, stride=stride, padding=padding, dilation=dilation,
        groups=groups, output_size=(17, 15), rectify=rectify,
    )  # fmt: skip
    close(actual, expected)


def test_is_max_unpool_relu_conv_transpose_of_torch() -> None:
    values = torch.randn(2, 4, 6, 5, dtype=torch.float64)
    maps = torch.randn(2, 4, 12, 11, dtype=torch.float64)
    weight = torch.randn(4, 3, 3, 3, dtype=torch.float64)
    _, indices = F.max_pool2d(maps, 2, return_indices=True)
    _, switches = max_pool2d_with_switches(maps, 2)
    unpooled = F.max_unpool2d(values, indices, 2, output_size=(12, 11))
    expected = F.conv_transpose2d(unpooled.relu(), weight, None, 2, 1, (1, 0))
    actual = unpool_relu_conv_transpose2d(
        values, switches, weight, pool_kernel_size=2, unpooled_size=(12, 11), stride=2, padding=1, output_size=(24, 21)
    )
    close(actual, expected)


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("outputs", [3, 16])
@pytest.mark.parametrize("backend", ["reference", "cpp"])
def test_an_infinite_value_reaches_the_outputs_of_its_filter_only(backend: str, outputs: int, layout: str) -> None:
    reason = registered()[OP].why_not(backend)
    if reason is not None:
        pytest.skip(reason)
    values = torch.ones(1, 16, 6, 6)
    values[0, 0, 2, 3] = torch.inf
    weight = torch.ones(16, outputs, 3, 3)
    result = unpool_relu_conv_transpose2d(laid_out(values, layout), None, weight, stride=2, padding=1, backend=backend)
    reached = torch.zeros_like(result, dtype=torch.bool)
    reached[:, :, 3:6, 5:8] = True
    assert (result[reached] == torch.inf).all()
    assert result[~reached].isfinite().all()


@pytest.mark.parametrize("rectify", [True, False])
def test_gradient_at_zero_is_that_of_relu(rectify: bool) -> None:
    values = torch.randint(-1, 2, (2, 4, 4, 3), dtype=torch.float64, requires_grad=True)
    weight = torch.randn(4, 3, 3, 3, dtype=torch.float64, requires_grad=True)
    maps = torch.randn(2, 4, 8, 6, dtype=torch.float64)
    _, indices = F.max_pool2d(maps, 2, return_indices=True)
    _, switches = max_pool2d_with_switches(maps, 2)
    unpooled = F.max_unpool2d(values, indices, 2)
    expected = F.conv_transpose2d(unpooled.relu() if rectify else unpooled, weight)
    actual = unpool_relu_conv_transpose2d(values, switches, weight, pool_kernel_size=2, rectify=rectify)
    towards = torch.randn_like(expected)
    for a, e in zip(*(torch.autograd.grad(y, (values, weight), towards) for y in (actual, expected)), strict=True):
        close(a, e)


def test_values_are_combined_before_they_are_rectified() -> None:
    """Two windows meet in the middle pixel with 2 and -3; the last of them is the -3, or a zero."""
    switches = torch.tensor([[2, 0]], dtype=torch.uint8)[None, None]
    weight = torch.ones(1, 1, 1, 1)

    def middle(first: float, last: float, **options: Any) -> float:
        values = torch.tensor([[first, last]], dtype=torch.float32)[None, None]
        out = unpool_relu_conv_transpose2d(
            values, switches, weight, pool_kernel_size=(1, 3), pool_stride=(1, 2), unpooled_size=(1, 5), **options
        )
        assert out.shape == (1, 1, 1, 5)
        assert out.flatten()[[0, 1, 3, 4]].eq(0).all()
        return out[0, 0, 0, 2].item()

    assert middle(5, -3) == 2
    assert middle(2, -3) == 0
    assert middle(2, -3, rectify=False) == -1
    assert middle(2, -3, overlap="last") == 0
    assert middle(2, -3, overlap="last", rectify=False) == -3
    assert middle(2, 0, overlap="last") == 0
    assert middle(-3, 2, overlap="last") == 2


def test_sizes_that_are_not_given_are_the_smallest() -> None:
    values = torch.randn(1, 2, 4, 3)
    switches = torch.zeros(1, 2, 4, 3, dtype=torch.uint8)
    weight = torch.randn(2, 3, 3, 3)
    pool = {"pool_kernel_size": 3, "pool_stride": 2}

    def shape(**options: Any) -> tuple[int, ...]:
        return tuple(unpool_relu_conv_transpose2d(values, switches, weight, **pool, **options).shape[2:])

    assert shape() == (11, 9)  # 4, 3 -> 9, 7 -> 11, 9
    assert shape(unpooled_size=(10, 7)) == (12, 9)
    assert shape(output_size=(12, 10)) == (12, 10)
    assert shape(stride=2) == (19, 15)
    assert shape(stride=2, output_size=(20, 16)) == (20, 16)
    assert unpool_relu_conv_transpose2d(values, None, weight, padding=1).shape == (1, 3, 4, 3)


BASE = {
    "values": torch.ones(2, 4, 6, 6),
    "switches": torch.zeros(2, 4, 6, 6, dtype=torch.uint8),
    "weight": torch.ones(4, 3, 3, 3),
    "pool_kernel_size": 2,
}
POOL = "Sliding(kernel=(2, 2), stride=(2, 2), padding=(0, 0), dilation=(1, 1))"
CONV = "Sliding(kernel=(3, 3), stride=(1, 1), padding=(0, 0), dilation=(1, 1))"


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"values": None}, TypeError, "values a tensor [N, C, Hp, Wp], got NoneType"),
        ({"values": torch.ones(2, 4, 6, 6).int()}, TypeError,
         "values of dtype float16, bfloat16, float32, float64, got torch.int32"),
        ({"values": torch.ones(4, 6, 6)}, ValueError, "values of shape [N, C, Hp, Wp], got (4, 6, 6)"),
        ({"switches": torch.zeros(2, 4, 6, 6)}, TypeError, "switches of dtype uint8, got torch.float32"),
        ({"switches": torch.zeros(1, 4, 6, 6, dtype=torch.uint8)}, ValueError,
         "switches' shape (2, 4, 6, 6), got (1, 4, 6, 6)"),
        ({"switches": None}, ValueError, "switches with pool_kernel_size and unpooled_size, got None"),
        ({"switches": None, "pool_kernel_size": None, "unpooled_size": (6, 6)}, ValueError,
         "switches with pool_kernel_size and unpooled_size, got None"),
        ({"weight": "w"}, TypeError, "weight a tensor [C, C_in / groups, kh, kw], got str"),
        ({"weight": torch.ones(4, 3, 3, 3).double()}, TypeError,
         "weight of the dtype of values, torch.float32, got torch.float64"),
        ({"weight": torch.ones(4, 3, 3, 3, device="meta")}, ValueError,
         "weight on the device of values, cpu, got meta"),
        ({"weight": torch.ones(3, 4, 3, 3)}, ValueError,
         "weight's first dimension, the channels of values, 4, got 3"),
        ({"weight": torch.ones(4, 3, 0, 3)}, ValueError,
         "weight [C, C_in / groups, kh, kw] with nothing but the first empty, got (4, 3, 0, 3)"),
        ({"pool_kernel_size": None}, ValueError, "pool_kernel_size with switches, got None"),
        ({"pool_kernel_size": 0}, ValueError, "pool_kernel_size at least 1, got 0"),
        ({"pool_stride": 0}, ValueError, "pool_stride at least 1, got 0"),
        ({"pool_padding": 3}, ValueError,
         "pool_padding at most half of the kernel (2, 2), got (3, 3)"),
        ({"pool_dilation": 0}, ValueError, "pool_dilation at least 1, got 0"),
        ({"unpooled_size": (14, 12)}, ValueError,
         f"unpooled_size a size that the pooling {POOL} turns into (6, 6), got (14, 12)"),
        ({"output_size": (16, 17)}, ValueError,
         f"unpooled_size a size that the pooling {POOL} turns into (6, 6), got (14, 15)"),
        ({"output_size": (15, 14), "unpooled_size": (12, 12)}, ValueError,
         f"output_size one that the convolution {CONV} turns into (12, 12), got (15, 14)"),
        ({"output_size": "a"}, TypeError, "output_size an int or a pair of ints, got 'a'"),
        ({"values": torch.ones(2, 4, 1, 1), "switches": None, "pool_kernel_size": None, "padding": 2}, ValueError,
         "output_size one that the convolution Sliding(kernel=(3, 3), stride=(1, 1), padding=(2, 2), dilation=(1, 1))"
         " turns into (1, 1), got (-1, -1)"),
        ({"stride": 0}, ValueError, "stride at least 1, got 0"),
        ({"padding": -1}, ValueError, "padding at least 0, got -1"),
        ({"dilation": 1.0}, TypeError, "dilation an int or a pair of ints, got 1.0"),
        ({"groups": 3}, ValueError, "groups a divisor of 4 channels, got 3"),
        ({"groups": 0}, ValueError, "groups a divisor of 4 channels, got 0"),
        ({"groups": 2.0}, TypeError, "groups an int, got 2.0"),
        ({"overlap": "max"}, ValueError, "overlap one of ('sum', 'last'), got 'max'"),
        ({"rectify": 1}, TypeError, "rectify a bool, got 1"),
        ({"frames": torch.ones(2, 4, 6, 6)}, ValueError,
         "frames and out_boxes with Windows only, got values [N, C, Hp, Wp]"),
        ({"out_boxes": torch.zeros(2, 4).int()}, ValueError,
         "frames and out_boxes with Windows only, got values [N, C, Hp, Wp]"),
    ],
)  # fmt: skip
def test_bad_arguments(changes: dict[str, Any], error: type, message: str) -> None:
    assert_refused(unpool_relu_conv_transpose2d, BASE | changes, error, message)

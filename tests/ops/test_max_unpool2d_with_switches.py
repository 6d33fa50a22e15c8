"""Unpooling with switches against ``F.max_unpool2d`` and as the adjoint of max-pooling, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from support.comparing import assert_bits_equal, assert_refused
from support.samples import DTYPES, POOLS, Sample, pooling, sliding
from support.variants import samples, skip_unless_possible, variants
from torch import Tensor

from zfkernels.ops import max_pool2d_with_switches, max_unpool2d_with_switches, switches_to_indices

OP = "max_unpool2d_with_switches"
CHOSEN = [pytest.param(size, pool, id=name) for name, size, pool in POOLS]
# Where windows neither overlap nor leave a border, both rules are F.max_unpool2d's.
DISJOINT = [pytest.param(size, pool, id=name) for name, size, pool in POOLS if name in ("disjoint", "one cell")]


def pooled(size: Any, pool: Any, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor, dict[str, Any]]:
    """A random map, the values to put back, their switches, and the arguments of the unpooling."""
    input = torch.randn(2, 3, *size, dtype=torch.float64).to(dtype).requires_grad_()
    _, switches = max_pool2d_with_switches(input, *pool[:4], ceil_mode=pool[4])
    values = torch.randn(switches.shape, dtype=torch.float64).to(dtype)
    return input, values, switches, {**pooling(*pool[:4]), "output_size": size}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("overlap", ["sum", "last"])
@pytest.mark.parametrize(("size", "pool"), DISJOINT)
def test_equals_torch_where_windows_are_disjoint(size: Any, pool: Any, overlap: str, dtype: torch.dtype) -> None:
    _, values, switches, geometry = pooled(size, pool, dtype)
    actual = max_unpool2d_with_switches(values, switches, **geometry, overlap=overlap)
    indices = switches_to_indices(switches, **pooling(*pool[:4]), input_size=size)
    assert_bits_equal([actual], [F.max_unpool2d(values, indices, 2, output_size=size)])


@pytest.mark.parametrize(("size", "pool"), CHOSEN)
def test_the_last_window_wins_as_in_torch(size: Any, pool: Any) -> None:
    _, values, switches, geometry = pooled(size, pool)
    actual = max_unpool2d_with_switches(values, switches, **geometry, overlap="last")
    indices = switches_to_indices(switches, **pooling(*pool[:4]), input_size=size)
    flat = torch.zeros(2, 3, size[0] * size[1], dtype=torch.float64)
    for n in range(2):  # F.max_unpool2d refuses some of these geometries; its rule is to write one after the other
        for c in range(3):
            for index, value in zip(indices[n, c].flatten().tolist(), values[n, c].flatten().tolist(), strict=True):
                flat[n, c, index] = value
    assert_bits_equal([actual], [flat.view_as(actual)])
    if pool[3] == 1 and not pool[4]:
        kernel, stride, padding = pool[:3]
        assert_bits_equal([actual], [F.max_unpool2d(values, indices, kernel, stride, padding, size)])


@pytest.mark.parametrize(("size", "pool"), CHOSEN)
def test_sum_is_the_gradient_of_max_pooling(size: Any, pool: Any) -> None:
    input, values, switches, geometry = pooled(size, pool)
    output = F.max_pool2d(input, *pool[:4], ceil_mode=pool[4])
    (expected,) = torch.autograd.grad(output, input, values)
    assert_bits_equal([max_unpool2d_with_switches(values, switches, **geometry)], [expected])


@pytest.mark.parametrize(("size", "pool"), CHOSEN)
def test_sum_is_the_adjoint_of_picking_the_maxima(size: Any, pool: Any) -> None:
    _, values, switches, geometry = pooled(size, pool)
    maps = torch.randn(2, 3, *size, dtype=torch.float64)
    indices = switches_to_indices(switches, **pooling(*pool[:4]), input_size=size)
    picked = maps.flatten(2).gather(2, indices.flatten(2)).view_as(values)
    unpooled = max_unpool2d_with_switches(values, switches, **geometry)
    torch.testing.assert_close((unpooled * maps).sum(), (values * picked).sum(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("op", "sample", "variant", "device"), variants([OP], {"contiguous"}, reference=True))
def test_sums_are_rounded_once(op: str, sample: Sample, variant: str, device: str, dtype: torch.dtype) -> None:
    """Nine windows meet in one pixel: a large value and eight that are lost if they are added one at a time."""
    large = 2 / torch.finfo(dtype).eps
    values = torch.ones(1, 1, 3, 3, dtype=dtype, device=device)
    values[0, 0, 0, 0] = large
    switches = torch.tensor([[8, 7, 6], [5, 4, 3], [2, 1, 0]], dtype=torch.uint8, device=device)[None, None]
    arguments = {"values": values, "switches": switches, "kernel_size": 3, "stride": 1, "output_size": (5, 5)}
    skip_unless_possible(op, variant, arguments)
    out = max_unpool2d_with_switches(**arguments, backend=variant)
    assert out[0, 0, 2, 2] == large + 8
    assert out.count_nonzero() == 1


@pytest.mark.parametrize(("op", "sample"), samples([OP], {"any switches", "any switches last"}))
def test_switches_outside_the_map_or_window_are_ignored(op: str, sample: Sample) -> None:
    arguments = sample.arguments(torch.float64)
    layer = sliding(*(arguments[name] for name in pooling(None, None, None, None)))
    switches = arguments["switches"].long()
    top, left = (torch.arange(switches.shape[2 + a]) * layer.stride[a] - layer.padding[a] for a in (0, 1))
    row = top[:, None] + switches // layer.kernel[1] * layer.dilation[0]
    column = left + switches % layer.kernel[1] * layer.dilation[1]
    height, width = arguments["output_size"]
    valid = (switches < 9) & (row >= 0) & (row < height) & (column >= 0) & (column < width)
    assert 0 < valid.count_nonzero() < valid.numel()
    values = arguments["values"].requires_grad_()
    out = max_unpool2d_with_switches(**arguments)
    (gradient,) = torch.autograd.grad(out.sum(), values)
    assert not gradient[~valid].any()
    switches = torch.where(valid, switches, 255).to(torch.uint8)
    assert_bits_equal([out], [max_unpool2d_with_switches(**{**arguments, "switches": switches})])


BASE = {
    "values": torch.ones(2, 3, 4, 4),
    "switches": torch.zeros(2, 3, 4, 4, dtype=torch.uint8),
    "kernel_size": 2,
    "output_size": (8, 9),
}


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"values": 1}, TypeError, "values a tensor [N, C, Hp, Wp], got int"),
        ({"values": torch.ones(4, 4)}, ValueError, "values of shape [N, C, Hp, Wp], got (4, 4)"),
        ({"switches": None}, TypeError, "switches a tensor [N, C, Hp, Wp], got NoneType"),
        ({"switches": torch.zeros(2, 3, 4, 4, dtype=torch.int64)}, TypeError,
         "switches of dtype uint8, got torch.int64; indices of F.max_pool2d become switches with indices_to_switches"),
        ({"switches": torch.zeros(2, 1, 4, 4, dtype=torch.uint8)}, ValueError,
         "switches' shape (2, 3, 4, 4), got (2, 1, 4, 4)"),
        ({"switches": torch.zeros(2, 3, 4, 4, dtype=torch.uint8, device="meta")}, ValueError,
         "switches on the device of values, cpu, got meta"),
        ({"kernel_size": []}, TypeError, "kernel_size an int or a pair of ints, got []"),
        ({"kernel_size": 17}, ValueError, "kernel_size of at most 256 cells (a switch is one byte), got (17, 17)"),
        ({"stride": (1, -1)}, ValueError, "stride at least 1, got (1, -1)"),
        ({"padding": 2}, ValueError, "padding at most half of the kernel (2, 2), got (2, 2)"),
        ({"dilation": 1.5}, TypeError, "dilation an int or a pair of ints, got 1.5"),
        ({"output_size": None}, TypeError, "output_size an int or a pair of ints, got None"),
        ({"output_size": 0}, ValueError, "output_size at least 1, got 0"),
        ({"output_size": (8, 10)}, ValueError,
         "output_size a size that the pooling Sliding(kernel=(2, 2), stride=(2, 2), padding=(0, 0), dilation=(1, 1))"
         " turns into (4, 4), got (8, 10)"),
        ({"overlap": "first"}, ValueError, "overlap one of ('sum', 'last'), got 'first'"),
        ({"overlap": None}, ValueError, "overlap one of ('sum', 'last'), got None"),
    ],
)  # fmt: skip
def test_bad_arguments(changes: dict[str, Any], error: type, message: str) -> None:
    assert_refused(max_unpool2d_with_switches, BASE | changes, error, message)

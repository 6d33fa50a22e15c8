"""The checker finds planted bugs, and is silent on a kernel without one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import triton
import triton.language as tl
from support import strict


@triton.jit
def double(x_ptr, y_ptr, count, BLOCK: tl.constexpr, STRIDE: tl.constexpr, LIMIT: tl.constexpr):
    """y = 2 x; right with STRIDE = BLOCK and LIMIT = 0."""
    index = tl.program_id(0) * STRIDE + tl.arange(0, BLOCK)
    tl.device_assert(index < count + LIMIT, "beyond the end")
    x = tl.load(x_ptr + index, mask=index < count + LIMIT)
    tl.store(y_ptr + index, 2 * x, mask=index < count)


def run(count: int = 32, block: int = 16, stride: int = 16, limit: int = 0, target: str = "other") -> Any:
    x = torch.arange(float(count))
    y = torch.zeros(count) if target == "other" else x
    with strict.watch() as launches:
        double[(triton.cdiv(count, stride),)](x, y, count, block, stride, limit)
    assert torch.equal(y, 2 * torch.arange(float(count)))
    return launches


def test_a_right_kernel_passes_and_is_counted() -> None:
    (launch,) = run()
    assert (launch.kernel, launch.grid) == ("double", (2, 1, 1))
    read, written = launch.loads["x_ptr"], launch.stores["y_ptr"]
    assert read.requested == written.requested == 128
    assert 128 <= read.cold <= 128 + strict.SECTOR  # torch aligns to 64 bytes, the sectors may not
    assert run(target="x")  # in place, each program its own part


@pytest.mark.parametrize(
    ("bug", "message"),
    [
        ({"limit": 1, "count": 31}, "double: program 1 of (2, 1, 1): load out of bounds at element 31 of x_ptr"),
        ({"stride": 8}, "double: program 1 of (4, 1, 1): a program writes what another wrote: element 8 of y_ptr"),
        ({"stride": 8, "target": "x"}, "a program reads what another writes: element 8 of"),
        ({"count": 24}, "beyond the end"),
    ],
    ids=["out of bounds", "write-write overlap", "read-write overlap", "assert"],
)
def test_planted_bugs_are_found(bug: dict[str, Any], message: str) -> None:
    with pytest.raises(AssertionError) as caught:
        run(**bug)
    assert message in str(caught.value)


@triton.jit
def neighbours(x_ptr, y_ptr, shift, FROM: tl.constexpr):
    lane = tl.arange(0, 4)
    tl.store(y_ptr + lane, tl.load((x_ptr if FROM == "x" else y_ptr) + lane + shift))


@pytest.mark.parametrize(
    ("source", "shift", "message"),
    [("x", 4, "load out of bounds at element 7 of x_ptr"), ("y", -4, "load out of bounds at element -4 of y_ptr"),
     ("x", -1, "load out of bounds at element -1 of x_ptr")],
)  # fmt: skip
def test_what_falls_into_another_tensor_is_out_of_bounds(source: str, shift: int, message: str) -> None:
    memory = torch.arange(8.0)
    x, y = memory[:4], memory[4:]
    with strict.watch():
        neighbours[(1,)](x, y, 0, "x")
        assert torch.equal(y, x)
        with pytest.raises(strict.Violation, match=message):
            neighbours[(1,)](x, y, shift, source)


def test_tensors_that_overlap_stay_together() -> None:
    memory = torch.arange(8.0)
    with strict.watch():
        neighbours[(1,)](memory[:4], memory[3:7], 0, "x")
    assert memory.tolist() == [0, 1, 2, 0, 1, 2, 3, 7]


@triton.jit
def hinted(x_ptr, y_ptr, STRIDE: tl.constexpr):
    row = tl.multiple_of(x_ptr + tl.arange(0, 4) * STRIDE, 16)
    tl.store(y_ptr + tl.arange(0, 4), tl.load(row))


def test_a_wrong_hint_is_found() -> None:
    with strict.watch():
        hinted[(1,)](torch.ones(16), torch.ones(4), 4)
        with pytest.raises(strict.Violation, match="a hint says multiples of 16, got"):
            hinted[(1,)](torch.ones(16), torch.ones(4), 2)


@triton.jit
def promised(x_ptr, y_ptr):
    lane = tl.max_contiguous(tl.arange(0, 4) // 2, 4)
    tl.store(y_ptr + tl.arange(0, 4), tl.load(x_ptr + lane))


def test_a_hint_that_nobody_checks_is_refused() -> None:
    with strict.watch(), pytest.raises(strict.Violation, match=r"the hint tt.contiguity is not watched"):
        promised[(1,)](torch.ones(4), torch.ones(4))


@triton.jit
def far(x_ptr, y_ptr, stride, INDEX: tl.constexpr):
    at = tl.program_id(0).to(INDEX) * stride
    tl.store(y_ptr + tl.program_id(0), tl.load(x_ptr + (at - at)))


def test_an_offset_of_32_bits_that_overflows_is_found() -> None:
    x, y = torch.ones(4), torch.zeros(4)
    with strict.watch():
        far[(2,)](x, y, 2**30, tl.int32)
        far[(3,)](x, y, 2**30, tl.int64)
        with pytest.raises(AssertionError, match="overflow"):
            far[(3,)](x, y, 2**30, tl.int32)


@triton.jit
def copy_first(x_ptr, y_ptr, WRONG: tl.constexpr):
    lane = tl.arange(0, 4)
    x = tl.load(x_ptr + lane, mask=lane < 2)  # what the other lanes hold is not defined
    tl.store(y_ptr + lane * (1 - WRONG), x, mask=lane < 2)
    tl.store(y_ptr + lane, x, mask=lane >= 2)


def test_masked_lanes_hold_garbage_and_lanes_may_not_collide() -> None:
    x, y = torch.ones(4), torch.zeros(4)
    with strict.watch():
        copy_first[(1,)](x, y, 0)
    assert y[:2].eq(1).all()
    assert (y[2:] < 0).all()
    with strict.watch(), pytest.raises(strict.Violation, match="two lanes of one store write element 0 of y_ptr"):
        copy_first[(1,)](x, y, 1)


@triton.jit
def product(x_ptr, y_ptr, z_ptr, PRECISION: tl.constexpr):
    at = tl.arange(0, 16)[:, None] * 16 + tl.arange(0, 16)[None, :]
    z = tl.dot(tl.load(x_ptr + at), tl.load(y_ptr + at), input_precision=PRECISION)
    tl.store(z_ptr + at, z.to(z_ptr.dtype.element_ty))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_products_and_casts_round_as_on_a_gpu(dtype: torch.dtype) -> None:
    x, y = torch.randn(2, 16, 16).to(dtype)
    z = torch.empty(16, 16, dtype=dtype)
    with strict.watch() as launches:
        product[(1,)](x, y, z, "ieee")
    torch.testing.assert_close(z, (x.float() @ y.float()).to(dtype), rtol=torch.finfo(dtype).eps, atol=1e-6)
    assert launches[0].multiply_adds == 16**3


def test_tf32_has_ten_bits() -> None:
    x, y, z = torch.full((16, 16), 1 + 2**-12), torch.eye(16), torch.empty(16, 16)
    with strict.watch():
        product[(1,)](x, y, z, "tf32")
        assert z.eq(1).all()
        product[(1,)](x, y, z, "ieee")
    assert torch.equal(z, x)

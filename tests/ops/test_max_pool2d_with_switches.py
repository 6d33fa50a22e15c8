"""Max-pooling with switches against ``F.max_pool2d``, the conversions of switches, and what is refused."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from support.comparing import assert_bits_equal, assert_refused
from support.samples import DTYPES, Sample, pooling
from support.variants import samples, skip_unless_possible, variants
from torch import Tensor

from zfkernels.ops import indices_to_switches, max_pool2d_with_switches, switches_to_indices

OP = "max_pool2d_with_switches"


def torch_pool(input: Tensor, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool) -> Any:
    return F.max_pool2d(input, kernel_size, stride, padding, dilation, ceil_mode, return_indices=True)


def geometry(arguments: dict[str, Any]) -> dict[str, Any]:
    return {name: arguments[name] for name in pooling(None, None, None, None)}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("op", "sample", "variant", "device"), variants([OP], reference=True))
def test_values_and_choice_are_torchs(op: str, sample: Sample, variant: str, device: str, dtype: torch.dtype) -> None:
    arguments = sample.arguments(dtype, device)
    skip_unless_possible(op, variant, arguments)
    values, switches = max_pool2d_with_switches(**arguments, backend=variant)
    expected, indices = torch_pool(**arguments)
    size = tuple(arguments["input"].shape[2:])
    assert_bits_equal([values], [expected])
    assert torch.equal(switches_to_indices(switches, **geometry(arguments), input_size=size), indices)
    assert torch.equal(indices_to_switches(indices, **geometry(arguments), input_size=size), switches)


@pytest.mark.parametrize(("op", "sample"), samples([OP], large=False))
def test_gradient_is_torchs(op: str, sample: Sample) -> None:
    arguments = sample.arguments(torch.float64)
    input = arguments["input"].requires_grad_()
    values, _ = max_pool2d_with_switches(**arguments)
    weights = torch.randn_like(values)
    actual = torch.autograd.grad(values, input, weights)
    assert_bits_equal(list(actual), list(torch.autograd.grad(torch_pool(**arguments)[0], input, weights)))


def test_switches_by_hand() -> None:
    input = torch.tensor([[1.0, 5, 2, 2], [5, 0, 2, 2], [float("nan"), 1, 7, 8], [1, float("nan"), 9, 6]])[None, None]
    values, switches = max_pool2d_with_switches(input, 2)
    assert switches.flatten().tolist() == [1, 0, 3, 2]  # the first of the fives and twos, the last NaN
    assert values[0, 0, 0].tolist() == [5, 2]
    _, padded = max_pool2d_with_switches(input[:, :, :1, :2], 3, padding=1)
    assert padded.flatten().tolist() == [5]  # counted in the window with its padding


BASE = {"input": torch.ones(2, 3, 8, 9), "kernel_size": 2}


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"input": [[1.0]]}, TypeError, "input a tensor [N, C, H, W], got list"),
        ({"input": torch.ones(1, 1, 4, 4, dtype=torch.int64)}, TypeError,
         "input of dtype float16, bfloat16, float32, float64, got torch.int64"),
        ({"input": torch.ones(3, 8, 9)}, ValueError, "input of shape [N, C, H, W], got (3, 8, 9)"),
        ({"input": torch.ones(2, 0, 8, 9)}, ValueError,
         "input [N, C, H, W] with nothing but the first empty, got (2, 0, 8, 9)"),
        ({"input": torch.ones(2, 3, 1, 9)}, ValueError,
         "input large enough for one output of Sliding(kernel=(2, 2), stride=(2, 2), padding=(0, 0), dilation=(1, 1)),"
         " got (1, 9)"),
        ({"input": torch.ones(1, 2, 4, 4).to_sparse()}, TypeError,
         "input a dense tensor, got one of layout torch.sparse_coo"),
        ({"kernel_size": 2.0}, TypeError, "kernel_size an int or a pair of ints, got 2.0"),
        ({"kernel_size": True}, TypeError, "kernel_size an int or a pair of ints, got True"),
        ({"kernel_size": (1, 2, 3)}, TypeError, "kernel_size an int or a pair of ints, got (1, 2, 3)"),
        ({"kernel_size": (2, 0)}, ValueError, "kernel_size at least 1, got (2, 0)"),
        ({"kernel_size": (16, 17), "input": torch.ones(1, 1, 20, 20)}, ValueError,
         "kernel_size of at most 256 cells (a switch is one byte), got (16, 17)"),
        ({"stride": "2"}, TypeError, "stride an int or a pair of ints, got '2'"),
        ({"stride": 0}, ValueError, "stride at least 1, got 0"),
        ({"padding": None}, TypeError, "padding an int or a pair of ints, got None"),
        ({"padding": -1}, ValueError, "padding at least 0, got -1"),
        ({"padding": 2, "kernel_size": 3}, ValueError,
         "padding at most half of the kernel (3, 3), got (2, 2)"),
        ({"padding": 2, "kernel_size": 3, "dilation": 2}, ValueError,
         "padding at most half of the kernel (3, 3), got (2, 2)"),
        ({"dilation": 0}, ValueError, "dilation at least 1, got 0"),
        ({"ceil_mode": 1}, TypeError, "ceil_mode a bool, got 1"),
    ],
)  # fmt: skip
def test_bad_arguments(changes: dict[str, Any], error: type, message: str) -> None:
    assert_refused(max_pool2d_with_switches, BASE | changes, error, message)


class Pair(NamedTuple):
    rows: Any
    columns: Any


@pytest.mark.parametrize("kernel_size", [True, 1.0, (True, 1), (1.0, 1), [1.0, 1], Pair(1.0, 1), Pair(1, True)])
def test_what_was_found_right_before_excuses_nothing(kernel_size: Any) -> None:
    """1, True and 1.0 are equal and have one hash."""
    for right in (1, (1, 1), [1, 1], Pair(1, 1)):
        max_pool2d_with_switches(BASE["input"], right)
    with pytest.raises(TypeError, match=f"^{OP}: expected kernel_size an int or a pair of ints, got "):
        max_pool2d_with_switches(BASE["input"], kernel_size)


@pytest.mark.parametrize(("function", "name", "dtype"), [(switches_to_indices, "switches", torch.uint8),
                                                         (indices_to_switches, "indices", torch.int64)])  # fmt: skip
def test_bad_arguments_of_the_conversions(function: Any, name: str, dtype: torch.dtype) -> None:
    corners = torch.arange(0, 8, 2)[:, None] * 8 + torch.arange(0, 8, 2)  # of the windows: switches of 0
    places = corners[None, None] if dtype == torch.int64 else torch.zeros(1, 1, 4, 4, dtype=dtype)
    base = {name: places, "kernel_size": 2, "input_size": (8, 8)}
    refusals: list[tuple[dict[str, Any], type, str]] = [
        ({name: None}, TypeError, f"{name} a tensor [N, C, Hp, Wp], got NoneType"),
        ({name: torch.zeros(1, 1, 4, 4)}, TypeError,
         f"{name} of dtype {str(dtype)[6:]}, got torch.float32"),
        ({name: torch.zeros(4, 4, dtype=dtype)}, ValueError, f"{name} of shape [N, C, Hp, Wp], got (4, 4)"),
        ({"kernel_size": -1}, ValueError, "kernel_size at least 1, got -1"),
        ({"input_size": 8.0}, TypeError, "input_size an int or a pair of ints, got 8.0"),
        ({"input_size": (8, 12)}, ValueError,
         "input_size a size that the pooling Sliding(kernel=(2, 2), stride=(2, 2), padding=(0, 0), dilation=(1, 1))"
         " turns into (4, 4), got (8, 12)"),
    ]  # fmt: skip
    function(**base)
    for changes, error, message in refusals:
        assert_refused(function, base | changes, error, message)

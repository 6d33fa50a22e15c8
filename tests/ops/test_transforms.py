"""Forward-mode differentiation, ``torch.func`` and FLOP counts of the registered ops."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from support.comparing import call, public
from support.samples import SAMPLES
from support.variants import skip_unless_possible, variants
from test_registration import DIFFERENTIATED, GRADIENTS, REFUSED, differentiable, scalar
from torch import Tensor
from torch.autograd import forward_ad, gradcheck
from torch.func import grad, hessian, jacfwd, jacrev, jvp, vjp, vmap
from torch.utils import _pytree as pytree
from torch.utils.flop_counter import FlopCounterMode

from zfkernels import ops


@pytest.mark.parametrize(("op", "sample", "variant", "device"), variants(GRADIENTS, DIFFERENTIATED, reference=True))
def test_tangents_are_those_of_finite_differences(op: str, sample: Any, variant: str, device: str) -> None:
    arguments, leaves = differentiable(op, sample.arguments(torch.float64, device))
    skip_unless_possible(op, variant, arguments)
    function = scalar(op, variant, arguments, leaves)
    assert gradcheck(function, leaves, fast_mode=True, check_forward_ad=True, check_backward_ad=False)


def stage(x: Tensor, weight: Tensor) -> Tensor:
    """All three ops that have gradients."""
    values, switches = ops.max_pool2d_with_switches(x, 3, 2)
    up = ops.max_unpool2d_with_switches(values**2, switches, 3, 2, output_size=(7, 7))
    return ops.unpool_relu_conv_transpose2d(values + up[:, :, ::2, ::2][:, :, :3, :3], None, weight).sin().sum()


def eager(x: Tensor, weight: Tensor) -> Tensor:
    """The same in PyTorch's own operations."""
    values, index = F.max_pool2d(x, 3, 2, return_indices=True)
    up = torch.zeros_like(x).flatten(2).scatter_add(2, index.flatten(2), (values**2).flatten(2)).view_as(x)
    return F.conv_transpose2d((values + up[:, :, ::2, ::2][:, :, :3, :3]).relu(), weight).sin().sum()


@pytest.mark.parametrize("argument", [0, 1])
def test_transforms_of_torch_func(argument: int) -> None:
    given = torch.randn(2, 2, 7, 7, dtype=torch.float64), torch.randn(2, 3, 3, 3, dtype=torch.float64)
    moves = [torch.randn_like(tensor) for tensor in given]
    for transform in (
        lambda f: grad(f, argument)(*given),
        lambda f: vjp(f, *given)[1](torch.tensor(2.0, dtype=torch.float64))[argument],
        lambda f: jvp(f, given, tuple(moves))[1],
        lambda f: jacrev(f, argument)(*given),
        lambda f: jacfwd(f, argument)(*given),
        lambda f: hessian(lambda *args: f(*args), argument)(*(g[:1] if i == 0 else g for i, g in enumerate(given))),
        lambda f: jacfwd(jacfwd(f, argument), argument)(given[0][:1, :1], given[1][:1]),
        lambda f: grad(lambda *args: grad(f, argument)(*args).square().sum(), argument)(*given),
        lambda f: vmap(f, (0, None))(given[0][:, None], given[1]),
        lambda f: vmap(grad(f, 0), (0, None))(given[0][:, None], given[1]),
    ):
        torch.testing.assert_close(transform(stage), transform(eager))


@pytest.mark.parametrize(("op", "argument"), [(op, name) for op, names in REFUSED.items() for name in names])
def test_ops_on_windows_refuse_a_tangent_in_words(op: str, argument: str) -> None:
    arguments = SAMPLES[op][0].arguments(torch.float32)
    message = f"^{op}: it has no tangent; expected tensors without one"
    with forward_ad.dual_level():
        arguments[argument] = pytree.tree_map_only(Tensor, dual, arguments[argument])
        with pytest.raises(RuntimeError, match=message):
            public(op)(**arguments)


def dual(tensor: Tensor) -> Tensor:
    return forward_ad.make_dual(tensor, torch.ones_like(tensor)) if tensor.is_floating_point() else tensor


def test_a_level_without_tangents_is_no_matter() -> None:
    with forward_ad.dual_level():
        for op, names in REFUSED.items():
            assert names
            public(op)(**SAMPLES[op][0].arguments(torch.float32))


def counted(function: Any) -> int:
    with FlopCounterMode(display=False) as mode:
        function()
    return mode.get_total_flops()


def test_flops_of_a_transposed_convolution_are_pytorchs() -> None:
    values, weight = torch.randn(2, 4, 5, 6), torch.randn(4, 3, 3, 2)
    ours = counted(lambda: ops.unpool_relu_conv_transpose2d(values, None, weight, groups=2))
    assert ours == counted(lambda: F.conv_transpose2d(values, weight, groups=2)) == 2 * values.numel() * 3 * 3 * 2


@pytest.mark.parametrize("op", ["occluded_conv2d", "window_conv2d"])
def test_flops_of_windows(op: str) -> None:
    """Each output cell is one filter's worth of multiply-adds for each map."""
    for sample in SAMPLES[op][:6]:
        arguments = sample.arguments(torch.float32)
        out = call(op, arguments, "reference")[0]
        expected = 2 * len(out) * arguments["weight"].numel()
        assert counted(lambda arguments=arguments: public(op)(**arguments)) == expected


def test_flops_of_projected_windows() -> None:
    arguments = SAMPLES["window_unpool_relu_conv_transpose2d"][0].arguments(torch.float32)
    values, weight = arguments["values"].values, arguments["weight"]
    expected = 2 * values.shape[0] * weight.numel()
    assert counted(lambda: public("window_unpool_relu_conv_transpose2d")(**arguments)) == expected

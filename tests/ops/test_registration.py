"""``torch.ops.zfkernels``: schemas, fake tensors, gradients and compilation, for every variant over the samples."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.comparing import assert_bits_equal, call, public
from support.samples import SAMPLES, Sample
from support.variants import flat_arguments, samples, skip_unless_possible, variants
from torch import Tensor
from torch.autograd import forward_ad, gradcheck, gradgradcheck
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from zfkernels import ops
from zfkernels.geometry import Sliding
from zfkernels.ops import _registry
from zfkernels.ops.max_pool2d_with_switches.op import check_unpooled_size
from zfkernels.windows import Layout

# What can be differentiated, and samples that meet each branch of the formulas.
GRADIENTS = {
    "max_pool2d_with_switches": ("input",),
    "max_unpool2d_with_switches": ("values",),
    "unpool_relu_conv_transpose2d": ("values", "weight"),
}
DIFFERENTIATED = {
    "contiguous", "sliced channels_last", "empty batch", "non-square", "overlapping", "overlapping last", "dilation",
    "padding ceil", "padding ceil last", "not rectified", "no switches", "groups", "any switches", "any switches last",
}  # fmt: skip
TRACED = {"contiguous", "empty batch", "groups", "four images", "no windows"}
COMPILED = {"contiguous", "overlapping last"}


def registered(op: str) -> Any:
    return getattr(torch.ops.zfkernels, op).default


def differentiable(op: str, arguments: dict[str, Any]) -> tuple[dict[str, Any], list[Tensor]]:
    """The arguments, and those of their tensors that now require a gradient."""
    names = GRADIENTS.get(op, ())
    fresh = {name: arguments[name].detach().clone().requires_grad_() for name in names}
    return {**arguments, **fresh}, list(fresh.values())


def significant_strides(tensor: Tensor) -> list[int]:
    """The strides that say where something lies: not those of dimensions of size one or of empty tensors."""
    return [s for s, n in zip(tensor.stride(), tensor.shape, strict=True) if n > 1 and tensor.numel() > 0]


@pytest.mark.parametrize(("op", "sample", "variant", "device"), variants(reference=True, large=False))
def test_schema_and_fake_kernel_tell_the_truth(op: str, sample: Sample, variant: str, device: str) -> None:
    arguments = sample.arguments(torch.float32, device)
    skip_unless_possible(op, variant, arguments)
    flat = flat_arguments(op, arguments)
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(registered(op), flat, {"backend": variant}, test_utils=checks)
    real = pytree.tree_leaves(registered(op)(*flat, backend=variant))
    meta = pytree.tree_leaves(registered(op)(*pytree.tree_map_only(Tensor, on_meta, flat)))
    for r, m in zip(real, meta, strict=True):
        assert (r.shape, r.dtype, significant_strides(r)) == (m.shape, m.dtype, significant_strides(m))


def on_meta(tensor: Tensor) -> Tensor:
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")


@pytest.mark.parametrize(("op", "sample"), samples(names=TRACED))
def test_traces_with_dynamic_shapes(op: str, sample: Sample) -> None:
    flat = flat_arguments(op, sample.arguments(torch.float32))
    if op in GRADIENTS:
        flat = pytree.tree_map_only(Tensor, lambda t: t.clone().requires_grad_() if t.is_floating_point() else t, flat)
    torch.library.opcheck(registered(op), flat, {"backend": "reference"}, test_utils="test_aot_dispatch_dynamic")


@pytest.mark.parametrize(("op", "sample", "variant", "device"), variants(SAMPLES, COMPILED, reference=True))
def test_compiles_in_one_graph(op: str, sample: Sample, variant: str, device: str) -> None:
    arguments, leaves = differentiable(op, sample.arguments(torch.float32, device))
    skip_unless_possible(op, variant, arguments)
    compiled = torch.compile(public(op), fullgraph=True, backend="aot_eager")
    actual = pytree.tree_leaves(compiled(**arguments, backend=variant))
    assert_bits_equal(actual, call(op, arguments, variant))
    if leaves:
        loss, expected = actual[0].sum(), call(op, arguments, variant)[0].sum()
        assert_bits_equal(list(torch.autograd.grad(loss, leaves)), list(torch.autograd.grad(expected, leaves)))


def test_sizes_are_checked_while_they_are_symbols() -> None:
    def checked(x: Tensor, size: tuple[int, int]) -> Tensor:
        check_unpooled_size("op", "size", size, (5, 4), Sliding((3, 3), (2, 2)))
        return x * size[0]

    compiled = torch.compile(checked, fullgraph=True, dynamic=True, backend="eager")
    assert compiled(torch.ones(1), (10, 9)) == 10


def scalar(op: str, variant: str, arguments: dict[str, Any], leaves: list[Tensor]) -> Any:
    """The op as a function of the tensors that require a gradient, for gradcheck."""
    names = GRADIENTS[op]
    return lambda *values: call(op, {**arguments, **dict(zip(names, values, strict=True))}, variant)[0]


@pytest.mark.parametrize(("op", "sample", "variant", "device"), variants(GRADIENTS, DIFFERENTIATED, reference=True))
def test_gradients_are_those_of_finite_differences(op: str, sample: Sample, variant: str, device: str) -> None:
    arguments, leaves = differentiable(op, sample.arguments(torch.float64, device))
    skip_unless_possible(op, variant, arguments)
    function = scalar(op, variant, arguments, leaves)
    assert gradcheck(function, leaves, fast_mode=True)
    assert gradgradcheck(function, leaves, fast_mode=True)


@pytest.mark.parametrize(("op", "sample", "variant", "device"), variants(GRADIENTS, DIFFERENTIATED, reference=False))
def test_gradients_are_those_of_the_reference(op: str, sample: Sample, variant: str, device: str) -> None:
    arguments, leaves = differentiable(op, sample.arguments(torch.float32, device))
    skip_unless_possible(op, variant, arguments)
    gradients = [
        torch.autograd.grad((call(op, arguments, name)[0] ** 2).sum(), leaves) for name in (variant, "reference")
    ]
    for actual, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)


REFUSED = {
    "occluded_conv2d": ("images", "weight", "bias", "fill"),
    "window_conv2d": ("windows", "frames", "weight", "bias"),
    "window_max_pool2d": ("windows", "frames"),
    "window_avg_pool2d": ("windows", "frames"),
    "window_gather": ("sources", "frames"),
    "window_reduce": ("windows", "frames"),
    "window_unpool_relu_conv_transpose2d": ("values", "weight"),
}


@pytest.mark.parametrize(("op", "argument"), [(op, name) for op, names in REFUSED.items() for name in names])
def test_window_ops_refuse_a_gradient_in_words(op: str, argument: str) -> None:
    arguments = SAMPLES[op][0].arguments(torch.float32)
    arguments[argument] = pytree.tree_map_only(
        Tensor, lambda t: t.requires_grad_() if t.is_floating_point() else t, arguments[argument]
    )
    result = pytree.tree_leaves(public(op)(**arguments))[0]
    with pytest.raises(
        RuntimeError,
        match=f"^{op}: it has no gradient; expected tensors that do not require grad",
    ):
        result.sum().backward()


class Seen(TorchDispatchMode):
    """The names of the package's ops that the dispatcher is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names += [func.name()] if func.namespace == "zfkernels" else []
        return func(*args, **(kwargs or {}))


def test_the_dispatcher_is_left_out_only_where_it_has_nothing_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    op = _registry.registered()["max_pool2d_with_switches"]
    direct: list[str] = []

    def route(*args: Any, backend: str | None = None) -> Any:
        direct.append(op.name)
        return type(op).route(op, *args, backend=backend)

    monkeypatch.setattr(op, "route", route)  # the dispatcher holds the method itself
    maps = torch.randn(2, 3, 4, 4)
    expected = ops.max_pool2d_with_switches(maps, 2)
    with torch.no_grad():
        assert_bits_equal(ops.max_pool2d_with_switches(torch.nn.Parameter(maps), 2), expected)
    assert len(direct) == 2

    values, _ = ops.max_pool2d_with_switches(maps.clone().requires_grad_(), 2)
    assert values.requires_grad
    with Seen() as seen:
        assert_bits_equal(ops.max_pool2d_with_switches(maps, 2), expected)
    assert seen.names == ["zfkernels::max_pool2d_with_switches"]
    graph = make_fx(lambda x: ops.max_pool2d_with_switches(x, 2))(maps).graph
    assert registered(op.name) in [node.target for node in graph.nodes]
    assert ops.max_pool2d_with_switches(maps.to("meta"), 2)[0].is_meta
    negative = torch.complex(torch.zeros_like(maps), -maps).conj().imag
    assert negative.is_neg()
    assert_bits_equal(ops.max_pool2d_with_switches(negative, 2), expected)
    with forward_ad.dual_level():
        ops.max_pool2d_with_switches(maps, 2)
    with torch.profiler.profile() as profile:
        ops.max_pool2d_with_switches(maps, 2)
    assert "zfkernels::max_pool2d_with_switches" in [event.name for event in profile.events()]
    assert len(direct) == 2


def test_a_module_is_exported_with_sizes_that_are_not_known() -> None:
    class First(torch.nn.Module):
        def forward(self, images: Tensor, weight: Tensor, boxes: Tensor, offsets: Tensor, owner: Tensor) -> Tensor:
            image, fill = torch.zeros(len(boxes), dtype=torch.int64), images.new_zeros(3)
            at = Layout(boxes, offsets, image, (images.shape[2], images.shape[3]), 18, owner)
            return ops.occluded_conv2d(
                images, weight, None, boxes, fill=fill, image=image, padding=1, out_boxes=at
            ).values

    height, width = (torch.export.Dim(name, min=8, max=64) for name in ("height", "width"))
    boxes = torch.tensor([[2, 3, 3, 3], [9, 9, 3, 3]], dtype=torch.int32)
    at = Layout.of(boxes, torch.zeros(2, dtype=torch.int64), (16, 16))
    given = (torch.randn(1, 3, 16, 16), torch.randn(4, 3, 3, 3), boxes, at.offsets, at.owner)
    shapes = {"images": {2: height, 3: width}, "weight": None, "boxes": None, "offsets": None, "owner": None}
    exported = torch.export.export(First(), given, dynamic_shapes=shapes).module()
    for size in ((16, 16), (20, 24)):
        images = torch.randn(1, 3, *size)
        assert_bits_equal([exported(images, *given[1:])], [First()(images, *given[1:])])

"""What a sweep of thousands of positions launches: counted, not timed."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from support import zoo
from support.narrow import narrow
from sweeping import ON_FRAMES, ON_WINDOWS, squares, sweep_of
from torch.utils._python_dispatch import TorchDispatchMode

from zfkernels.network import record
from zfkernels.occlusion.cost import RATES
from zfkernels.occlusion.engine import WindowSweep


class Calls(TorchDispatchMode):
    """Counts the operations that are called, not what they call in turn."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.counts[str(func)] += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(("name", "most"), [("resnet18", 400), ("vgg16", 300)])
def test_a_grid_of_2809_positions(name: str, most: int) -> None:
    axis = torch.arange(53) * 4
    boxes = squares(torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2), (16, 16))
    model, x = narrow(name), torch.randn(1, 3, 224, 224)
    sweep = sweep_of(model, x, boxes)
    fill = torch.zeros(3)
    sweep(x, fill, batch_size=len(boxes))
    with Calls() as calls:
        found = sweep(x, fill, batch_size=len(boxes))
    assert found.outputs.shape == (1, 2809, 5)
    assert sum(calls.counts.values()) <= most, calls.counts.most_common(10)
    plan = sweep.plan(x.device, x.dtype)
    inputs = sum(len(kind.inputs) for kind in plan.head)
    ours = sum(count for op, count in calls.counts.items() if op.startswith("zfkernels."))
    assert 10 < ours <= inputs + len(plan.cut)
    assert plan.planned <= 1.06 * plan.exact


class Products(TorchDispatchMode):
    """Counts the multiply-adds of convolutions on windows and of matrix products, as they are executed."""

    def __init__(self) -> None:
        super().__init__()
        self.multiply_adds = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = str(func)
        if name.startswith(("zfkernels.window_conv2d", "zfkernels.occluded_conv2d")):
            weight = args[[argument.name for argument in func._schema.arguments].index("weight")]
            self.multiply_adds += out.shape[0] * weight.numel()
        elif name.startswith("aten.addmm"):
            self.multiply_adds += out.shape[0] * args[2].numel()
        elif name.startswith(("aten.mm", "mkldnn._linear_pointwise")):
            self.multiply_adds += out.shape[0] * args[1].numel()
        elif name.startswith(("aten.convolution", "mkldnn._convolution_pointwise")):
            self.multiply_adds += out.numel() * args[1][0].numel()
        return out


@pytest.mark.parametrize("name", ["resnet18", "vgg16", "alexnet"])
def test_multiply_adds_executed_are_those_planned(name: str) -> None:
    """On windows exactly the boxes; the clean pass beside them is counted by itself."""
    boxes = squares(torch.randint(0, 80, (9, 2)), (9, 9))
    model, x, fill = narrow(name), torch.randn(1, 3, 96, 96), torch.zeros(3)
    for rates in (ON_WINDOWS, ON_FRAMES):
        sweep = sweep_of(model, x, boxes, rates=rates)
        plan = sweep.plan(x.device, x.dtype)
        with Products() as clean:
            sweep.program.run(x, sweep.program.outputs)
        with Products() as products:
            sweep(x, fill)
        assert products.multiply_adds - clean.multiply_adds == plan.planned
        assert clean.multiply_adds * len(boxes) == plan.dense
        assert plan.planned <= 1.06 * plan.exact


@pytest.mark.parametrize("name", ["vgg16", "resnet18", "resnet50", "alexnet", "squeezenet1_0", "densenet121"])
@pytest.mark.parametrize("device", RATES)
def test_multiply_adds_of_networks_of_their_own_width(name: str, device: str) -> None:
    """From the shapes of the calls, on tensors without numbers."""
    axis = torch.arange(0, 224, 40)
    boxes = squares(torch.cartesian_prod(axis, axis), (16, 16))
    x = torch.empty(1, 3, 224, 224, device="meta")
    sweep = WindowSweep(record(zoo.unloaded(name).eval(), (3, 224, 224)), boxes, rates=RATES[device])
    plan, clean = sweep.plan(x.device, x.dtype), sweep.clean(x)
    with Products() as products:
        sweep(clean, x.new_zeros(3))
    assert products.multiply_adds == plan.planned <= 1.06 * plan.exact


class Unread(TorchDispatchMode):
    """Refuses what a GPU would have to be waited for."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func.overloadpacket not in (
            torch.ops.aten._local_scalar_dense, torch.ops.aten.nonzero, torch.ops.aten.equal, torch.ops.aten.is_nonzero,
            torch.ops.aten.masked_select, torch.ops.aten.unique_dim,
        ), func  # fmt: skip
        return func(*args, **(kwargs or {}))


def test_between_the_first_launch_and_the_last_no_value_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    boxes = squares(torch.randint(0, 80, (9, 2)), (9, 9))
    model, x, fill = narrow("resnet18"), torch.randn(2, 3, 96, 96), torch.zeros(3)
    sweep = sweep_of(model, x, boxes)
    chunks, run = [], WindowSweep._run

    def quiet(self: WindowSweep, *args: Any) -> None:
        with Unread():
            chunks.append(run(self, *args))

    monkeypatch.setattr(WindowSweep, "_run", quiet)
    sweep(x, fill, batch_size=5)
    assert len(chunks) == 4
    with pytest.raises(AssertionError), Unread():
        fill.sum().item()

"""What a sweep takes of memory against the budget that was stated, as PyTorch's allocator counts it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from support import zoo
from support.peak import peak_bytes
from support.toys import toy
from sweeping import squares, sweep_of

import zfkernels as zf
from zfkernels.occlusion import cost
from zfkernels.occlusion.arguments import grid
from zfkernels.occlusion.engine import WindowSweep

BUDGET = 2**23
CASES = [
    ("resnet18", "cpu"), ("resnet18", "cuda"), ("squeezenet1_0", "cpu"), ("mobilenet_v3_large", "cpu"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "device"), CASES)
def test_the_peak_stays_within_the_budget(name: str, device: str) -> None:
    """Networks of their own size; the constants of another device cut them elsewhere.

    oneDNN's copy of a layer's filters, which whole frames are computed with, has nothing to do with positions.
    """
    model, x, fill = zoo.unloaded(name).to_empty(device="cpu"), torch.randn(1, 3, 224, 224), torch.zeros(3)
    for tensor in model.state_dict().values():
        tensor.zero_()
    places = squares(grid((224, 224), (16, 16), (8, 8)).reshape(-1, 2), (16, 16))
    sweep = sweep_of(model, x, places, rates=cost.RATES[device])
    clean = sweep.clean(x)
    most = 2 * BUDGET // sweep.plan(x.device, x.dtype).head_bytes  # enough for two chunks, if only the head counted
    some = sweep_of(model, x, places[len(places) // 2 :][:most], rates=cost.RATES[device])
    some(clean, fill, memory=BUDGET)
    peak = peak_bytes(lambda: some(clean, fill, memory=BUDGET))
    assert BUDGET / 3 < peak < 1.2 * BUDGET + max(parameter.nbytes for parameter in copied(some))


def copied(sweep: WindowSweep) -> list[torch.Tensor]:
    """Filters of the steps that run on whole frames."""
    tail = sweep.plan(torch.device("cpu"), torch.float32).tail
    return [kind.filters for kind in tail if kind.filters is not None] or [torch.empty(0)]


def test_too_small_a_budget_names_the_least_that_would_do() -> None:
    model, x = toy("residual"), torch.randn(1, 3, 25, 31, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"^occlusion_sweep: expected memory at least (\d+) bytes, which") as caught:
        zf.occlusion_sweep(model, x, window=4, memory=1)
    least = int(str(caught.value).split("at least ")[1].split()[0])
    with pytest.raises(ValueError, match=f"^occlusion_sweep: expected memory at least {least} bytes"):
        zf.occlusion_sweep(model, x, window=4, memory=least - 1)
    assert zf.occlusion_sweep(model, x, window=4, memory=least).batch_size == 1


def test_one_position_may_take_more_than_the_devices_own_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody asked for less memory: each position travels alone."""
    monkeypatch.setitem(cost.RATES, "cpu", replace(cost.RATES["cpu"], budget=1))
    model, x = toy("residual"), torch.randn(1, 3, 25, 31, dtype=torch.float64)
    swept = zf.occlusion_sweep(model, x, window=9, stride=9)
    assert swept.batch_size == 1
    pairs = zf.occlusion_pairs(model, x, window=9, positions=swept.positions.flatten(0, -2)[:3])
    torch.testing.assert_close(pairs.singles[0], swept.outputs.flatten(1, -2)[0, :3])
    order = torch.zeros(12).index_fill(0, torch.tensor(0), 1).view(3, 4)
    curve = zf.deletion_curve(model, x, order, window=9, steps=1)
    torch.testing.assert_close(curve.outputs[0, 1], pairs.singles[0, 0])

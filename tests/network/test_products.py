"""Convolutions and matrix products by the fastest library: the same numbers as PyTorch's functions one by one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from zfkernels.geometry import Sliding
from zfkernels.network import record
from zfkernels.network.kinds import products
from zfkernels.network.program import Program
from zfkernels.network.recording import INPUT

ACTIVATIONS: dict[str, Any] = {
    "silu": nn.SiLU(), "hardswish": nn.Hardswish(), "relu6": nn.ReLU6(), "hardtanh": nn.Hardtanh(-0.3, 0.4),
}  # fmt: skip


@pytest.fixture(params=[True, False], ids=["oneDNN", "PyTorch"])
def by_onednn(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    if not request.param:
        monkeypatch.setattr(products, "_by_onednn", lambda x: False)
    return request.param


def program_of(model: nn.Module, x: Tensor, **options: Any) -> Program:
    return Program(record(model, tuple(x.shape[1:])), **options)


@pytest.mark.parametrize("name", ACTIVATIONS)
@torch.no_grad()
def test_an_activation_behind_a_convolution_is_one_step_with_it(name: str, by_onednn: bool) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(4, 6, 3, 2, 1), nn.BatchNorm2d(6), ACTIVATIONS[name], nn.Conv2d(6, 5, 1)).eval()
    x = torch.randn(2, 4, 9, 11)
    program = program_of(model, x, forwards=True)
    assert list(program.kinds) == [INPUT, program.recording.layers["2"].name, program.recording.layers["3"].name]
    found = program.run(x, program.outputs)[program.outputs[0]]
    torch.testing.assert_close(found, model(x))


def test_the_way_back_down_keeps_its_steps() -> None:
    x = torch.randn(2, 4, 9, 11)
    program = program_of(nn.Sequential(nn.Conv2d(4, 6, 3), nn.SiLU()), x)
    assert len(program.kinds) == 3


@pytest.mark.parametrize("activation", [nn.ReLU(), *ACTIVATIONS.values()], ids=["relu", *ACTIVATIONS])
@torch.no_grad()
def test_fully_connected_layers(activation: nn.Module, by_onednn: bool) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 7), activation, nn.ReLU(), nn.Linear(7, 3, bias=False)).eval()
    x = torch.randn(5, 4, 3, 3)
    for forwards, steps in [(False, 6), (True, 5)]:  # the first activation is folded in, the second is not
        program = program_of(model, x, forwards=forwards)
        assert [kind.kind for kind in program.kinds.values()].count("fully connected") == 2
        assert len(program.kinds) == steps
        torch.testing.assert_close(program.run(x, program.outputs)[program.outputs[0]], model(x))


@pytest.mark.parametrize("grouped", [1, 2])
def test_types_and_gradients_that_onednn_has_not(grouped: int) -> None:
    layer = Sliding((3, 3), (1, 1), (1, 1), (1, 1))
    x, weight = torch.randn(2, 4, 5, 5, dtype=torch.float64), torch.randn(6, 4 // grouped, 3, 3, dtype=torch.float64)
    truth = torch.nn.functional.conv2d(x, weight, None, 1, 1, 1, grouped).relu()
    assert torch.equal(products.convolve(x, weight, None, layer, grouped, products.RELU), truth)
    matrix = torch.randn(3, 4, requires_grad=True)
    products.multiply(torch.randn(2, 4), matrix, None).sum().backward()
    assert matrix.grad is not None
    assert products.multiply(torch.randn(0, 4), matrix.detach(), None).shape == (0, 3)

"""The Triton variants can be captured in a CUDA graph: nothing waits for the GPU, no shape depends on its numbers.

Without a GPU: the host side runs on fake CUDA tensors, every operation of PyTorch is looked at, launches are written
down in place of being run.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support.capturing import OnDevice
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode

pytest.importorskip("triton")

from gpu_code.cases import CASES, Case
from gpu_code.window_cases import WINDOWS

from zfkernels.ops import _triton_launch, registered

MOST_OPERATIONS = 64  # of PyTorch, views among them, around a launch for thousands of positions


def triton(case: Case) -> Callable[..., Any]:
    return registered()[case.op].variants["triton"].load()


def observed(function: Callable[..., Any], case: Case) -> tuple[list[str], list[Any]]:
    """The operations of PyTorch and the launches of a call on fake CUDA tensors."""
    with FakeTensorMode(), torch.no_grad():
        flat = case.flat(torch.float16, "cuda")
        with _triton_launch.record() as launches, OnDevice() as mode:
            function(*flat)
    return mode.operations, launches


@pytest.mark.parametrize("case", [*CASES, *WINDOWS], ids=lambda case: f"{case.op}-{case.name}")
def test_nothing_waits_for_the_gpu(case: Case) -> None:
    operations, launches = observed(triton(case), case)
    assert len(launches) == 1
    assert len(operations) <= MOST_OPERATIONS
    assert all(isinstance(n, int) for n in launches[0].grid)
    kept = [tensor for tensor in launches[0].args if isinstance(tensor, Tensor)]
    assert {tensor.device.type for tensor in kept} == {"cuda"}


def wait(values: Tensor, *rest: Any) -> Any:
    return values.sum().item()


def count(values: Tensor, *rest: Any) -> Any:
    return values.nonzero()


def fetch(values: Tensor, *rest: Any) -> Any:
    return values.cpu()


def send(values: Tensor, *rest: Any) -> Any:
    return values + torch.ones(1).to(values.device)


def listed(values: Tensor, *rest: Any) -> Any:
    return values[0, 0, 0].tolist()


@pytest.mark.parametrize("planted", [wait, count, fetch, send, listed])
def test_a_planted_wait_is_found(planted: Callable[..., Any]) -> None:
    with pytest.raises((AssertionError, DataDependentOutputException, DynamicOutputShapeException)):
        observed(planted, CASES[0])


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.op}-{case.name}")
def test_a_compiled_graph_holds_one_op(case: Case) -> None:
    """``torch.compile`` on fake CUDA tensors, the Triton variant asked for by name: the op is one node of the graph."""
    op = getattr(torch.ops.zfkernels, case.op).default
    graphs: list[torch.fx.GraphModule] = []

    def keep(graph: torch.fx.GraphModule, inputs: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        flat = case.flat(torch.float16, "cuda")
        torch._dynamo.reset()
        torch.compile(lambda *args: op(*args, backend="triton"), backend=keep, fullgraph=True)(*flat)
    (graph,) = graphs
    called = [node for node in graph.graph.nodes if node.op == "call_function" and "zfkernels" in str(node.target)]
    assert [node.target for node in called] == [op]
    assert called[0].kwargs["backend"] == "triton"


@pytest.mark.parametrize("case", [*CASES, *WINDOWS], ids=lambda case: f"{case.op}-{case.name}")
def test_the_default_tile_is_launched_without_a_gpu(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is measured where no GPU has a name, whatever is wished for."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    plain = observed(triton(case), case)[1]
    monkeypatch.setenv("ZFKERNELS_TUNE", "1")
    wished = observed(triton(case), case)[1]
    assert [(launch.grid, launch.options) for launch in plain] == [(launch.grid, launch.options) for launch in wished]


@pytest.mark.parametrize(
    "case",
    [case for case in (*CASES, *WINDOWS) if "conv" in case.op and case.name != "depthwise"],
    ids=lambda case: f"{case.op}-{case.name}",
)
def test_every_tile_is_measured_once_and_the_winner_launched(
    case: Case, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ZFKERNELS_TUNE", "1")
    monkeypatch.setenv("ZFKERNELS_CACHE", str(tmp_path))
    monkeypatch.setattr(sys.modules[triton(case).__module__], "gpu_name", lambda device: "Some GPU")
    monkeypatch.setattr("zfkernels.tuning._triton_timer", lambda call: call() or 1.0)
    *measured, last = [
        (launch.grid, launch.options, [argument for argument in launch.args if not isinstance(argument, Tensor)])
        for launch in observed(triton(case), case)[1]
    ]
    assert len(measured) >= 2
    assert all(measured.count(tile) == 1 for tile in measured)
    assert last == measured[0]  # the first of equals

"""Sweeps of further images are replays of a graph, and give the same bytes; a CPU's operations stand in for a GPU's."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from support.capturing import POOL, Graph, stand_in
from torch import Tensor, nn

import zfkernels as zf
from zfkernels.occlusion import places
from zfkernels.replay import Replayed, without_graphs
from zfkernels.results import OcclusionFills

SWEEP: dict[str, Any] = {"window": 5, "stride": 4}


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> list[Graph]:
    return stand_in(monkeypatch)


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 8, 1), nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4),
    ).eval()  # fmt: skip


def images(*sizes: tuple[int, int]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(3, *size, generator=generator) for size in sizes]


def values(found: Any) -> Iterator[Tensor]:
    for part in found.maps if isinstance(found, OcclusionFills) else (found,):
        kept = (part.outputs, part.clean, part.activity, part.channel, part.clean_activity)
        yield from (value for value in kept if isinstance(value, Tensor))


@pytest.mark.parametrize(
    "options",
    [
        {}, {"batch_size": 7}, {"fill": "mean"}, {"fill": [0.0, "mean"], "batch_size": 20}, {"shape": "disc"},
        {"fill": torch.rand(25, 3, 5, 5)}, {"targets": [2, 0]}, {"layer": "4"},
        {"layer": "6", "units": [3, 1], "statistic": "value"},
    ],
    ids=["plain", "chunks", "mean", "fills", "disc", "each", "targets", "strongest", "units"],
)  # fmt: skip
def test_replays_give_the_bytes_of_the_sweep_itself(graphs: list[Graph], options: dict[str, Any]) -> None:
    data = images(*[(20, 20)] * 4)
    with without_graphs():
        expected = list(zf.occlusion_sweeps(small(), data, **SWEEP, **options))
    assert graphs == []
    found = list(zf.occlusion_sweeps(small(), data, **SWEEP, **options))
    assert [graph.replays for graph in graphs] == [3]
    for one, other in zip(found, expected, strict=True):
        pairs = list(zip(values(one), values(other), strict=True))
        assert len(pairs) >= 2
        assert all(torch.equal(ours, theirs) for ours, theirs in pairs)
    assert not torch.equal(next(values(found[2])), next(values(found[3])))  # each result is its own


def test_each_size_of_image_has_a_graph_and_all_share_their_memory(graphs: list[Graph]) -> None:
    data = images((20, 20), (17, 22), (20, 20), (17, 22), (17, 22), (20, 20))
    found = [one.outputs for one in zf.occlusion_sweeps(small(), data, **SWEEP)]
    assert [graph.replays for graph in graphs] == [2, 2]
    assert {graph.pool for graph in graphs} == {POOL}
    with without_graphs():
        assert all(map(torch.equal, found, (one.outputs for one in zf.occlusion_sweeps(small(), data, **SWEEP))))


def test_the_sweeps_are_of_the_model_as_it_was(graphs: list[Graph]) -> None:
    """Weights that are changed in place meanwhile are not seen: the sweeps have a copy."""
    model, data = small(), images(*[(20, 20)] * 3)
    expected = [one.outputs for one in zf.occlusion_sweeps(model, data, **SWEEP)]
    found = []
    for one in zf.occlusion_sweeps(model, data, **SWEEP):
        found.append(one.outputs)
        with torch.no_grad():
            model[0].weight.mul_(2)
    assert all(map(torch.equal, found, expected))


def test_a_users_function_is_not_captured(graphs: list[Graph]) -> None:
    def reduce(outputs: Tensor, image: Tensor, clean: Tensor) -> Tensor:
        return outputs - outputs.sum().item()

    list(zf.occlusion_sweeps(small(), images(*[(20, 20)] * 3), **SWEEP, reduce=reduce))
    assert graphs == []


def test_layouts_that_do_not_stay_on_the_device_are_not_captured(
    graphs: list[Graph], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "SHARE", 10**9)
    sent: list[int] = []
    send = places.sent
    monkeypatch.setattr(places, "sent", lambda words, device: sent.append(len(words)) or send(words, device))
    list(zf.occlusion_sweeps(small(), images(*[(20, 20)] * 2), **SWEEP, batch_size=10))
    assert graphs == []
    assert len(sent) == 2 * 3  # each chunk's, before it runs
    sent.clear()
    monkeypatch.setattr(places, "SHARE", 8)
    list(zf.occlusion_sweeps(small(), images(*[(20, 20)] * 2), **SWEEP, batch_size=10))
    assert len(sent) == 1  # all at once


class Doubled:
    """What a graph is made of: a weight, and how often it ran in Python."""

    def __init__(self, reads: bool = False) -> None:
        self.weight, self.reads, self.runs = torch.ones(3), reads, 0

    def __call__(self, x: Tensor, rest: dict[str, Any], *, again: bool) -> dict[str, Any]:
        self.runs += 1
        if self.reads:
            x = x + x.sum().item()
        return {"y": x * self.weight, "again": again}


def test_what_is_read_is_read_as_it_is_by_then(graphs: list[Graph]) -> None:
    function = Doubled()
    call = Replayed("test", function)
    found = [call(torch.full((3,), float(i)), {})["y"] for i in range(4)]
    assert [row.tolist() for row in found] == [[float(i)] * 3 for i in range(4)]
    function.weight.mul_(2)
    assert call(torch.ones(3), {})["y"].tolist() == [2.0] * 3
    assert function.runs == 2  # before the capture, and for it


@pytest.mark.parametrize("other", [torch.ones(4, 3), torch.ones(3).double(), torch.ones(3, 2)[:, 0]])
def test_another_form_of_arguments_is_another_graph(graphs: list[Graph], other: Tensor) -> None:
    function = Doubled()
    call = Replayed("test", function)
    for x in (torch.ones(3), torch.zeros(3), other, other):
        assert torch.equal(call(x, {})["y"], x * function.weight)
    assert [graph.replays for graph in graphs] == [1, 1]


def test_settings_and_numbers_belong_to_the_form(graphs: list[Graph]) -> None:
    call = Replayed("test", Doubled())
    for number in (1, 1, 2, 2):
        call(torch.ones(3), {"number": number})
    with zf.use_backend("reference"):
        call(torch.ones(3), {"number": 2})
        call(torch.ones(3), {"number": 2})
    assert [graph.replays for graph in graphs] == [1, 1, 1]


def test_what_a_capture_refuses_is_said_once_and_runs(graphs: list[Graph]) -> None:
    function = Doubled(reads=True)
    call = Replayed("somebody", function)
    call(torch.ones(3), {})
    with pytest.warns(RuntimeWarning, match="somebody: runs without a CUDA graph: .*not permitted"):
        found = call(torch.ones(3), {})
    assert found["y"].tolist() == [4.0] * 3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert call(torch.zeros(3), {})["y"].tolist() == [0.0] * 3


def test_inside_a_capture_of_the_callers_the_function_runs(
    graphs: list[Graph], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    function = Doubled()
    call = Replayed("test", function)
    for _ in range(3):
        call(torch.ones(3), {})
    assert (function.runs, graphs) == (3, [])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("options", [{}, {"batch_size": 9}, {"fill": "mean", "layer": "4"}])
def test_replays_on_a_gpu(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    replays: list[int] = []
    replay = torch.cuda.CUDAGraph.replay
    monkeypatch.setattr(torch.cuda.CUDAGraph, "replay", lambda self: replays.append(1) or replay(self))
    model = small().cuda()
    data = [image.cuda() for image in images((20, 20), (17, 22), (20, 20), (17, 22), (20, 20), (20, 20))]
    found = list(zf.occlusion_sweeps(model, data, **SWEEP, **options))
    assert len(replays) == len(data) - 2
    with without_graphs():
        expected = list(zf.occlusion_sweeps(model, data, **SWEEP, **options))
    for one, other in zip(found, expected, strict=True):
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(values(one), values(other), strict=True))

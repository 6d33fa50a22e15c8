"""The host sends a batch of projections one tensor and then waits for nothing; a batch can be captured in a CUDA graph.

Without a GPU: what lies on the GPU is a fake tensor, every operation of PyTorch that touches it is looked at, launches
are written down in place of being run. What ran before has made the constants of the steps. Autograd does not run on a
fake GPU: its operations are looked at where a batch is captured, on the CPU.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from support.capturing import Graph, HostAndDevice, move_constants, on_cuda, route_to_kernels, stand_in
from support.narrow import Branches, narrow
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

pytest.importorskip("triton")

import zfkernels as zf
from zfkernels.deconvnet import places
from zfkernels.deconvnet.api import Forward
from zfkernels.deconvnet.descent import Descent
from zfkernels.deconvnet.graph import graph_of
from zfkernels.deconvnet.places import Entry, UnitPlaces
from zfkernels.deconvnet.units import Units, entering, unit_boxes
from zfkernels.network.tree import map_leaves
from zfkernels.ops import _triton_launch
from zfkernels.replay import Replayed

SIDE = 96
LAYERS = {  # the units of all of them go down together
    "alexnet": ("features.6", "features.10", "classifier.6"),
    "vgg16": ("features.7", "features.21"),
    "resnet18": ("layer2.1", "layer3.0.conv1", "fc"),
    "branches": ("one", "last"),
    "whole": ("0", "3"),
}


def network(name: str) -> nn.Module:
    if name == "whole":  # a norm whose derivative is taken on whole frames, below units that see a part of them
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), nn.Conv2d(4, 2, 3)).eval()
    return Branches().eval() if name == "branches" else narrow(name)


def units_of(forward: Forward, layer: str, count: int) -> Tensor:
    """Places of a layer's maps, at their borders and inside."""
    shape = forward.activations(layer).shape
    picks = torch.linspace(0, shape.numel() - 1, count).long()
    return torch.stack(torch.unravel_index(picks, shape), 1)


def forward_of(name: str, backend: str | None = None) -> Forward:
    with torch.no_grad():
        forward = zf.DeconvNet(network(name)).forward(torch.randn(2, 3, SIDE, SIDE), LAYERS[name])
    return replace(forward, net=zf.DeconvNet(forward.net.model, backend=backend))


def on_gpu(forward: Forward, fake: FakeTensorMode, *together: tuple[str, ...]) -> Forward:
    """The same on a fake GPU, with the constants of the steps that go down where some layers do ``together``."""
    steps = [tuple(forward.names[layer] for layer in layers) for layers in together]
    graphs = [graph_of(forward.recording, names, forward.net.rules) for names in steps]
    with fake:
        for kind in (kind for graph in graphs for kind in graph.kinds.values()):
            move_constants(kind)
        kept = {name: map_leaves(on_cuda, getattr(forward.clean, name)) for name in ("values", "switches")}
        return replace(
            forward, images=on_cuda(forward.images), values=map_leaves(on_cuda, dict(forward.values)),
            clean=replace(forward.clean, **kept),
        )  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
def test_a_batch_is_sent_one_tensor_and_nothing_waits(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    forward, layers = forward_of(name, "triton"), LAYERS[name]
    here = {layer: units_of(forward, layer, 5) for layer in layers}
    expected = replace(forward, net=zf.DeconvNet(forward.net.model)).project_layers(here)
    fake, sent = FakeTensorMode(allow_non_fake_inputs=True), []
    there = on_gpu(forward, fake, layers, layers[-1:])

    def send(words: Tensor, device: torch.device) -> Tensor:
        sent.append(len(launches))
        return torch.empty(words.shape, dtype=words.dtype, device=device)

    with fake:
        units = {layer: Units(rows, on_cuda(rows)) for layer, rows in here.items()}

    def grad(out: Tensor, inputs: list[Tensor], signal: Tensor, allow_unused: bool) -> list[Tensor]:
        assert out.shape == signal.shape
        return list(map(torch.empty_like, inputs))

    route_to_kernels(monkeypatch)
    monkeypatch.setattr(places, "sent", send)
    monkeypatch.setattr(torch.autograd, "grad", grad)
    with torch.no_grad(), _triton_launch.record() as launches, fake:
        with HostAndDevice(first=True):
            there._project(units, len(layers) * 5 - 2, progress=False)
        launches.clear()
        sent.clear()
        with HostAndDevice() as mode:
            found = there._project(units, len(layers) * 5 - 2, progress=False)
    first, second, *of_results = sent  # two batches, and what each layer's result has of boxes
    assert first == 0
    assert 0 < second < len(launches)
    assert of_results == [len(launches)] * len(layers)
    assert len(launches) >= 4
    assert len(mode.operations) > 20
    for layer in layers:
        assert found[layer].windows.values.device.type == "cuda"
        assert found[layer].windows.values.shape == expected[layer].windows.values.shape
        assert torch.equal(found[layer].receptive_field, expected[layer].receptive_field)


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> list[Graph]:
    return stand_in(monkeypatch)


@pytest.mark.parametrize("name", LAYERS)
def test_a_batch_can_be_captured(name: str, graphs: list[Graph]) -> None:
    """Replays give the bytes of the batch itself for other activations, on the CPU's operations."""
    forward = forward_of(name)
    steps = [forward.names[layer] for layer in LAYERS[name]]
    graph = graph_of(forward.recording, tuple(steps), forward.net.rules)
    units = [units_of(forward, layer, 4) for layer in LAYERS[name]]
    entries = {}
    for index, (step, rows) in enumerate(zip(steps, units, strict=True)):
        boxes = unit_boxes(graph.kinds[step], forward.values[step].dim(), rows[:, 2:])
        entries[step] = Entry(torch.arange(4) + 4 * index, boxes)
    placed = UnitPlaces(graph, entries, torch.cat(units)[:, 0]).on(torch.device("cpu"))
    first = {
        step: entering(graph.kinds[step], forward.values[step], rows, torch.rand(4) + 1)
        for step, rows in zip(steps, units, strict=True)
    }

    def run(values: dict[str, Tensor], *, again: bool = True) -> Tensor:
        return Descent(graph, forward.clean, placed, values, forward.net.manner).run().values

    with torch.no_grad():
        replayed = Replayed("projections", run)
        given = [{step: values * times for step, values in first.items()} for times in (1.0, 2.0, -1.0)]
        found = [replayed(values) for values in given]
        assert [graph.replays for graph in graphs] == [2]
        assert all(torch.equal(pixels, run(values)) for pixels, values in zip(found, given, strict=True))
        assert not torch.equal(found[0], found[2])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", LAYERS)
def test_nothing_waits_on_a_gpu(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn.conv, "fp32_precision", "ieee")
    forward, layers = forward_of(name), LAYERS[name]
    here = {layer: units_of(forward, layer, 5) for layer in layers}
    expected = forward.project_layers(here)
    model = forward.net.model.cuda()
    with torch.no_grad():
        there = zf.DeconvNet(model).forward(forward.images.cuda(), layers)
        units = {layer: Units(rows, rows.cuda()) for layer, rows in here.items()}
        there._project(units, 7, progress=False)  # kernels are compiled, constants are sent
        torch.cuda.set_sync_debug_mode("error")
        try:
            found = there._project(units, 7, progress=False)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    for layer in layers:
        torch.testing.assert_close(found[layer].dense().cpu(), expected[layer].dense(), rtol=1e-3, atol=1e-5)

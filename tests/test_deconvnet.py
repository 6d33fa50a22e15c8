"""The DeconvNet against back-propagation with its rules, over full frames, in float64."""

from __future__ import annotations

import math

import pytest
import torch
from support import zoo
from support.backprop import assert_projections, projections, some_units
from support.toys import TOYS, Normalised, Sized, images, toy
from torch import Tensor, nn

import zfkernels as zf

LAYERS = {
    "alexnet": ("features.10", "classifier.3"),
    "vgg11": ("features.15",),
    "vgg16_bn": ("features.26",),
    "resnet18": ("layer3.1.bn2", "fc"),
    "resnet50": ("layer2",),
    "resnext50_32x4d": ("layer2.0.conv2",),
    "squeezenet1_0": ("features.5", "classifier"),
    "squeezenet1_1": ("features.12.expand3x3",),
    "googlenet": ("inception4a",),
    "inception_v3": ("Mixed_6b",),
    "densenet121": ("features.transition1",),
    "mobilenet_v2": ("features.5",),
    "mobilenet_v3_small": ("features.6",),
    "mnasnet1_0": ("layers.9",),
    "shufflenet_v2_x1_0": ("stage3",),
    "efficientnet_b0": ("features.3",),
    "regnet_y_400mf": ("trunk_output.block2",),
    "convnext_tiny": ("features.3",),
    "zfnet64": ("features.13", "classifier"),
    "vit": ("conv_proj", "heads"),
}


@pytest.mark.parametrize(("name", "layer"), [(name, layer) for name in LAYERS for layer in LAYERS[name]])
def test_a_known_network(name: str, layer: str) -> None:
    model, x = zoo.network(name), zoo.photos(1, zoo.SIZES[name])
    net = zf.DeconvNet(model)
    units = some_units(zf.trace_model(model, x).activations(x, [layer])[layer], 6)
    assert_projections(net.project(x, layer, units=units).dense(), projections(model, x, layer, units))


@pytest.mark.parametrize("name", ["alexnet", "squeezenet1_1", "zfnet64"])
def test_the_last_of_overlapping_windows_wins(name: str) -> None:
    model, x = zoo.network(name), zoo.photos(2, zoo.SIZES[name])
    layer = LAYERS[name][0]
    net = zf.DeconvNet(model, overlap="last")
    units = some_units(zf.trace_model(model, x).activations(x, [layer])[layer], 8)
    found = net.project(x, layer, units=units).dense()
    assert_projections(found, projections(model, x, layer, units, "last"))
    assert not torch.allclose(found, zf.DeconvNet(model).project(x, layer, units=units).dense())


def layers_of(model: nn.Module) -> tuple[str, ...]:
    if isinstance(model, Normalised):
        return "net.body", "net.top", "net.classes"
    return ("features", "fc", "classes") if isinstance(model, Sized) else ("body", "top", "classes")


# Small networks with pools whose windows overlap or leave gaps; in the others, both conventions are one.
POOLS = ("dilated", "oblong", "skipping", "max_pool", "pool_first")


@pytest.mark.parametrize(("name", "overlap"), [*((n, "sum") for n in TOYS), *((n, "last") for n in POOLS)])
def test_a_small_network(name: str, overlap: str) -> None:
    model, x = toy(name), images()
    net = zf.DeconvNet(model, overlap=overlap)
    for layer in layers_of(model):
        units = some_units(zf.trace_model(model, x).activations(x, [layer])[layer], 12)
        found = net.project(x, layer, units=units)
        assert_projections(found.dense(), projections(model, x, layer, units, overlap))


@pytest.mark.parametrize("name", ["reused_relu", "reused_block"])
def test_each_call_of_a_module(name: str) -> None:
    model, x = toy(name), images()
    layer = {"reused_relu": "body.relu", "reused_block": "body.block"}[name]
    net = zf.DeconvNet(model)
    for call in (0, 1):
        units = some_units(zf.trace_model(model, x).activations(x, [f"{layer}:{call}"])[f"{layer}:{call}"], 8)
        expected = projections(model, x, layer, units, call=call)
        assert_projections(net.project(x, f"{layer}:{call}", units=units).dense(), expected)
    last = net.project(x, layer, units=units)
    assert_projections(last.dense(), expected)


class Extremes(nn.Module):
    """Maps whose maximum is negative, zero everywhere, tied, tied at the lower right, and ordinary."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.MaxPool2d(2))
        self.maps = nn.Conv2d(5, 5, 3)
        self.double()
        with torch.no_grad():
            self.maps.bias[0] = -50
            self.maps.weight[1:4] = 0
            self.maps.bias[1:4] = torch.tensor([0.0, 2.0, -1.0])

    def forward(self, x: Tensor) -> Tensor:
        return self.maps(self.first(x))


@pytest.mark.parametrize("rectified", [False, True])
def test_negative_zero_and_tied_maxima(rectified: bool) -> None:
    model, x = nn.Sequential(Extremes(), nn.ReLU() if rectified else nn.Identity()), images(3)
    found = zf.DeconvNet(model).project(x, "1")
    maps = model(x)
    assert found.image.tolist() == [0] * 5 + [1] * 5 + [2] * 5
    assert found.channel.tolist() == [0, 1, 2, 3, 4] * 3
    constant = found.channel != 4
    constant &= (found.channel != 0) | torch.tensor(rectified)
    assert not found.position[constant].any()  # of equal ones the first in row-major order
    assert torch.equal(found.activation, maps.amax((2, 3)).flatten())
    assert (found.activation[found.channel == 0] == 0).all() if rectified else (found.activation[::5] < -10).all()
    units = torch.cat([found.image[:, None], found.channel[:, None], found.position], 1)
    assert_projections(found.dense(), projections(model, x, "1", units))
    assert not found.dense()[found.activation == 0].any()
    if not rectified:
        assert found.dense()[0].any()  # a negative value is injected; only what is below is rectified


def test_shares_of_a_pixel_add_up() -> None:
    """Without rectifiers and biases projecting is linear: the projections of a patch's cells add up to its gradient."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.MaxPool2d(3, 2), nn.Conv2d(4, 1, 3, bias=False)).double()
    x, net = images(1), zf.DeconvNet(model)
    maps = net.network.activations(x, ["2"])["2"]
    cells = torch.cartesian_prod(*(torch.arange(length) for length in (1, 1, *maps.shape[2:])))
    total = net.project(x, "2", units=cells).dense().sum(0)
    assert math.isclose(float((total * x[0]).sum()), float(maps.square().sum()), rel_tol=1e-10)

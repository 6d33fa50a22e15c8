"""What a projection is made of: which units, where they lie, what they see, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from support import zoo
from support.backprop import assert_projections, projections, some_units
from support.footprint import bounding_boxes, toy_footprints
from support.toys import MAPS, SIZE, images, toy
from torch import Tensor, nn

import zfkernels as zf


def test_channels_and_positions() -> None:
    model, x = toy("residual"), images(3)
    net = zf.DeconvNet(model)
    maps = net.network.activations(x, ["top.1"])["top.1"]
    whole = net.project(x, "top.1")
    assert len(whole) == 3 * 5
    some = net.project(x, "top.1", channels=[4, 0, 4])
    assert some.channel.tolist() == [4, 0, 4] * 3
    assert torch.equal(some.dense()[:2], whole.dense()[[4, 0]])
    channel, row, column = maps[0].nonzero()[5].tolist()
    one = net.project(x, "top.1", channels=channel, position=(row, column))
    assert one.position.tolist() == [[row, column]] * 3
    assert torch.equal(one.activation, maps[:, channel, row, column])
    units = torch.tensor([[i, channel, row, column] for i in range(3)])
    assert_projections(one.dense(), projections(model, x, "top.1", units))


def test_units_come_back_in_their_order() -> None:
    x, net = images(3), zf.DeconvNet(toy("cat_keywords"))
    units = some_units(net.network.activations(x, ["top.0"])["top.0"], 20)
    order = torch.randperm(len(units))
    straight, shuffled = (net.project(x, "top.0", units=u) for u in (units, units[order].to(torch.int32)))
    torch.testing.assert_close(shuffled.dense(), straight.dense()[order], rtol=0, atol=1e-13)
    for field in ("image", "channel", "position", "activation", "receptive_field"):
        assert torch.equal(getattr(shuffled, field), getattr(straight, field)[order]), field


@pytest.mark.parametrize("name", ["squeeze", "contrast", "twice", "avg_pool_inner", "view"])
def test_the_batch_size_does_not_matter(name: str) -> None:
    x, model = images(2), toy(name)
    net, layer = zf.DeconvNet(model), "fc" if name == "view" else "top"
    expected = net.project(x, layer)
    for batch_size in (1, 3, 7):
        found = net.project(x, layer, batch_size=batch_size)
        torch.testing.assert_close(found.dense(), expected.dense(), rtol=0, atol=1e-12)
        assert torch.equal(found.windows.boxes, expected.windows.boxes)


@pytest.mark.parametrize("name", ["residual", "squeeze", "cat_keywords", "channels_last"])
@pytest.mark.parametrize("batch_size", [256, 5])
def test_units_of_several_layers_go_down_together(name: str, batch_size: int) -> None:
    x, model = images(2), toy(name)
    net, layers = zf.DeconvNet(model), ("classes", "top", "body", "stem.0")
    forward = net.forward(x, layers)
    units = {layer: some_units(forward.activations(layer), 6) for layer in layers}
    together = forward.project_layers(units, batch_size)
    assert tuple(together) == layers
    for layer, found in together.items():
        alone = net.project(x, layer, units=units[layer])
        torch.testing.assert_close(found.dense(), alone.dense(), rtol=0, atol=1e-12)
        assert torch.equal(found.windows.boxes, alone.windows.boxes)
        for field in ("image", "channel", "position", "activation", "receptive_field"):
            assert torch.equal(getattr(found, field), getattr(alone, field)), field
        assert alone.dense().any()


def test_windows_are_small_where_receptive_fields_are() -> None:
    x = zoo.photos(1, zoo.SIZES["vgg11"])
    net = zf.DeconvNet(zoo.network("vgg11"))
    row = {info.name: info for info in net.layers}["features.5"]
    found = net.project(x, "features.5")
    assert tuple(found.windows.boxes[:, 2:].amax(0).tolist()) == row.receptive_field == (10, 10)
    fields = found.receptive_field
    assert torch.equal(found.windows.boxes[:, :2], fields[:, :2])
    assert torch.equal(found.windows.boxes[:, 2:], fields[:, 2:] - fields[:, :2])
    assert (found.windows.boxes[:, 2:] < 10).any()  # at the border, where there is less to see
    assert [tuple(patch.shape[1:]) for patch in found.patches(x)] == [
        (bottom - top, right - left) for top, left, bottom, right in fields.tolist()
    ]
    assert torch.equal(found.patches(x)[7], x[0, :, fields[7, 0] : fields[7, 2], fields[7, 1] : fields[7, 3]])


@pytest.mark.parametrize(
    "name", ["oblong", "skipping", "residual", "squeeze", "avg_pool_inner", "cat_keywords", "spatial_gate"]
)
def test_receptive_fields(name: str) -> None:
    x, net = images(), zf.DeconvNet(toy(name))
    for layer in ("body", "top", "top.0"):
        mask = toy_footprints(name)[net.network.resolve(layer)]
        cells = torch.cartesian_prod(*(torch.arange(length) for length in mask.shape[2:]))
        expected = bounding_boxes(mask.flatten(2).permute(2, 0, 1))
        expected = torch.cat([expected.lo, expected.hi], 1)
        assert torch.equal(net.receptive_field(layer, cells, SIZE), expected)
        units = torch.cat([torch.ones(len(cells), 2, dtype=torch.int64), cells], 1)
        found = net.project(x, layer, units=units)
        assert torch.equal(found.receptive_field, expected)
        pixels = bounding_boxes(found.dense().abs().sum(1) > 0)
        empty = (pixels.hi == 0).all(1, keepdim=True)
        assert (empty | (pixels.lo >= expected[:, :2])).all()
        assert (pixels.hi <= expected[:, 2:]).all()


def test_a_layer_without_maps_sees_the_whole_image() -> None:
    x, net = images(), zf.DeconvNet(toy("residual"))
    found = net.project(x, "classes", channels=[1, 2])
    assert not found.position.any()
    assert found.receptive_field.tolist() == [[0, 0, *SIZE]] * 4
    assert found.windows.boxes.tolist() == [[0, 0, *SIZE]] * 4
    assert net.receptive_field("classes", torch.zeros(2, 2), SIZE).tolist() == [[0, 0, *SIZE]] * 2


def nodes(tensor: Tensor) -> list[str]:
    """What autograd would go back through from a tensor."""
    found, waiting = {}, [tensor.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in found:
            found[node] = type(node).__name__
            waiting.extend(before for before, _ in node.next_functions)
    return list(found.values())


@pytest.mark.parametrize(
    ("name", "layer", "steps"),
    [
        ("vgg16_bn", "features.26", False),
        ("squeezenet1_1", "features.12", False),
        ("densenet121", "features.transition1", False),
        ("resnet18", "fc", True),
        ("googlenet", "inception4a", True),
        ("shufflenet_v2_x1_0", "stage3", True),
        ("mobilenet_v3_small", "features.6", True),
        ("efficientnet_b0", "features.3", True),
        ("convnext_tiny", "features.1", True),
    ],
)
def test_autograd_sees_single_steps_at_most(
    name: str, layer: str, steps: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, x = zoo.network(name, dtype=torch.float32), zoo.photos(1, zoo.SIZES[name]).float()
    grad, seen = torch.autograd.grad, []

    def watched(out: Tensor, *args: Any, **kwargs: Any) -> Any:
        seen.append([node for node in nodes(out) if "Reshape" not in node and "View" not in node])
        return grad(out, *args, **kwargs)

    monkeypatch.setattr(torch.autograd, "grad", watched)
    found = zf.DeconvNet(model).project(x.requires_grad_(), layer, channels=range(4))
    assert bool(seen) == steps
    assert all(len(graph) < 10 for graph in seen), seen
    assert not found.windows.values.requires_grad
    assert found.windows.values.dtype == torch.float32


def test_memory_formats_and_strides_of_the_images() -> None:
    x, net = images(), zf.DeconvNet(toy("residual"))
    expected = net.project(x, "top").dense()
    strided = torch.randn(2, 6, *SIZE, dtype=torch.float64)[:, ::2]
    strided.copy_(x)
    for same in (x.contiguous(memory_format=torch.channels_last), strided):
        torch.testing.assert_close(net.project(same, "top").dense(), expected, rtol=0, atol=1e-13)


def test_nothing_to_project() -> None:
    x, net = images(), zf.DeconvNet(toy("residual"))
    for found in (
        net.project(x, "top", channels=[]),
        net.project(x, "classes", channels=[]),
        net.project(x, "top", units=torch.zeros(0, 4, dtype=torch.int64)),
        net.project(x[:0], "top"),
    ):
        assert len(found) == 0
        assert found.dense().shape == (0, 3, *SIZE)
        assert found.patches(x) == []


def test_changes_of_weights_in_place_are_seen() -> None:
    model, x = toy("relu_then_norm"), images()
    net = zf.DeconvNet(model)
    before = net.project(x, "top").dense()
    with torch.no_grad():
        model.stem[0].weight.mul_(-1.5)
        model.body[2].running_var.mul_(2)
    found = net.project(x, "top").dense()
    assert torch.equal(found, zf.DeconvNet(model).project(x, "top").dense())
    assert not torch.allclose(found, before)


class Folded(nn.Module):
    """Treats quarters of an image as images of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.relu, self.last = nn.Conv2d(3, MAPS, 3), nn.ReLU(), nn.Conv2d(4 * MAPS, 2, 3)

    def forward(self, x: Tensor) -> Tensor:
        quarters = x[:, :, :24, :28].reshape(-1, 3, 12, 14)
        return self.last(self.relu(self.conv(quarters)).reshape(-1, 4 * MAPS, 10, 12))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"images": images().float()}, TypeError, r"images of the model's dtype torch\.float64, got torch\.float32"),
        ({"images": images().long()}, TypeError, r"images a floating-point tensor .*, got torch\.int64"),
        ({"images": "photo.png"}, TypeError, r"images a floating-point tensor .*, got str"),
        ({"images": images()[0]}, ValueError, r"images of shape \[N, C, H, W\], got \(3, 25, 31\)"),
        ({"images": images()[:, :2]}, ValueError, r"images of 3 channels, got 2"),
        ({"layer": "tops"}, ValueError, r"layer one of the network's layers, got 'tops'; near matches: .*'top\.0'"),
        ({"channels": 5}, ValueError, r"channel from 0 to 4 of layer 'top', got 5"),
        ({"channels": [0, -1]}, ValueError, r"channel from 0 to 4 of layer 'top', got -1"),
        ({"channels": "all"}, TypeError, r"channels None, an int or several ints, got 'all'"),
        ({"position": "first"}, ValueError, r"position 'max' or \(row, column\), got 'first'"),
        ({"position": (5, 0)}, ValueError, r"row from 0 to 4 of layer 'top', got 5"),
        ({"layer": "classes", "position": (0, 1)}, ValueError, r"column from 0 to 0 of layer 'classes', got 1"),
        ({"units": [[0, 0, 0, 0]]}, TypeError, r"units an int tensor \[P, 4\], got list"),
        ({"units": torch.zeros(2, 4)}, TypeError, r"units an int tensor \[P, 4\]"),
        ({"units": torch.zeros(2, 3).long()}, ValueError, r"units of shape \[P, 4\], got \(2, 3\)"),
        ({"units": torch.tensor([[2, 0, 0, 0]])}, ValueError, r"image from 0 to 1 of layer 'top', got 2"),
        ({"batch_size": 0}, ValueError, r"batch_size a positive int, got 0"),
        ({"position": (0.5, 1)}, ValueError, r"position 'max' or \(row, column\), got \(0\.5, 1\)"),
        ({"units": torch.ones(1, 4, dtype=torch.bool)}, TypeError, r"units an int tensor \[P, 4\], got torch\.bool"),
        (
            {"units": torch.tensor([[0, 0, 0, 0]]), "channels": 1},
            ValueError,
            r"units, or channels and position, got both",
        ),
        ({"units": torch.tensor([[0, 0, 0, 0]]), "position": (1, 1)}, ValueError, r"units, or channels .*, got both"),
    ],
)
def test_bad_input(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"expected {message}"):
        zf.DeconvNet(toy("residual")).project(**{"images": images(), "layer": "top", **arguments})


@pytest.mark.parametrize(
    ("make", "layer", "message"),
    [
        (lambda: toy("split"), "chunk", r"a layer that is one tensor \[N, \.\.\.\] for N images, got step 'chunk'"),
        (lambda: Folded(), "relu", r"a layer that is one tensor \[N, \.\.\.\] for N images, got step 'relu_1'"),
    ],
)
def test_layers_that_have_no_projections(make: Callable[[], nn.Module], layer: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        zf.DeconvNet(make().double()).project(images(), layer)


def test_a_rectifier_of_what_are_no_images_follows_the_rule() -> None:
    model, x = Folded().double(), images()
    units = some_units(model(x), 8)
    assert_projections(
        zf.DeconvNet(model).project(x, "last", units=units).dense(), projections(model, x, "last", units)
    )


def test_bad_networks() -> None:
    with pytest.raises(ValueError, match=r"DeconvNet: expected overlap one of \('sum', 'last'\), got 'max'"):
        zf.DeconvNet(toy("residual"), overlap="max")
    with pytest.raises(ValueError, match=r"got body\.2 \(BatchNorm2d\) in training mode; call model\.eval\(\) first"):
        zf.DeconvNet(toy("relu_then_norm").train())
    with pytest.raises(zf.BackendError, match="backend 'fortran' cannot run"):
        zf.DeconvNet(toy("residual"), backend="fortran").project(images(), "top")

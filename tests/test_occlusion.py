"""Occlusion sweeps against running the whole network on every occluded image, in float64."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from support import zoo
from support.hiding import assert_exact, dense_outputs, everywhere, occluded
from support.rounding import rms, rounded_sums
from support.toys import SIZE, TOYS, images, toy
from torch import Tensor, nn

import zfkernels as zf
from zfkernels.network import UnrecordableError


@pytest.mark.parametrize("name", zoo.COMPUTED)
def test_a_known_network(name: str) -> None:
    model, x = zoo.network(name), zoo.photos(1, zoo.SIZES[name])
    window, fill = (9, 7), torch.tensor([0.3, -0.9, 1.7], dtype=torch.float64)
    positions = everywhere(zoo.SIZES[name], window)
    found = zf.occlusion_sweep(model, x, window=window, positions=positions, fill=fill)
    assert_exact(found, *dense_outputs(model, x, positions, window, fill))


@pytest.mark.parametrize(
    ("name", "side"),
    [("alexnet", 224), ("squeezenet1_0", 224), ("resnet18", 160), ("mobilenet_v2", 160), ("inception_v3", 149)],
)
def test_a_square_that_is_small_against_the_frame(name: str, side: int) -> None:
    model, x = zoo.network(name, (side, side)), zoo.photos(1, (side, side))
    positions = torch.tensor([[0, 0], [101, 57], [side - 6, side // 2], [90, side - 20]])
    found = zf.occlusion_sweep(model, x, window=16, positions=positions)
    assert_exact(found, *dense_outputs(model, x, positions, (16, 16), 0.0))


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_0", "zfnet64", "alexnet", "googlenet"])
def test_single_precision_errs_as_its_sums_allow(name: str) -> None:
    size, window = zoo.SIZES[name], (9, 7)
    model, x, positions = zoo.network(name), zoo.photos(2, size), everywhere(size, window)
    exact, _ = dense_outputs(model, x, positions, window, 0.5)
    with rounded_sums(model, torch.float32):
        budget = rms(dense_outputs(model, x, positions, window, 0.5)[0] - exact)
    found = zf.occlusion_sweep(model.float(), x.float(), window=window, positions=positions, fill=0.5)
    assert found.outputs.dtype == torch.float32
    assert 0 < rms(found.outputs.double() - exact) <= 2 * budget


@pytest.mark.parametrize("name", TOYS)
def test_a_small_network(name: str) -> None:
    model, x = toy(name), images(3)
    positions = torch.cat([everywhere(SIZE, (4, 3)), torch.randint(0, min(SIZE), (12, 2))])
    found = zf.occlusion_sweep(model, x, window=(4, 3), positions=positions, fill=0.7, batch_size=5)
    assert_exact(found, *dense_outputs(model, x, positions, (4, 3), 0.7))


@pytest.mark.parametrize(
    ("window", "stride"),
    [((4, 3), (1, 1)), (5, 2), ((1, 9), (3, 4)), ((9, 1), 7), (SIZE, None), ((24, 31), 1), (1, (8, 9)), (6, None)],
)
def test_grids(window: Any, stride: Any) -> None:
    model, x = toy("residual"), images(1)
    found = zf.occlusion_sweep(model, x, window=window, stride=stride)
    h, w = (window, window) if isinstance(window, int) else window
    sy, sx = (h, w) if stride is None else (stride, stride) if isinstance(stride, int) else stride
    rows = [i * sy for i in range((SIZE[0] - h + sy - 1) // sy + 1)]
    columns = [j * sx for j in range((SIZE[1] - w + sx - 1) // sx + 1)]
    assert found.positions.tolist() == [[[row, column] for column in columns] for row in rows]
    assert found.window == (h, w)
    assert found.outputs.shape == (1, len(rows), len(columns), zoo.CLASSES)
    flat = found.positions.flatten(0, 1)
    expected, clean = dense_outputs(model, x, flat, (h, w), 0.0)
    assert_exact(found, expected.unflatten(1, (len(rows), len(columns))), clean)


@pytest.mark.parametrize(
    "fill",
    [
        0.0,
        -2,
        torch.tensor([1.0, 0.0, -1.0]),
        torch.randn(2, 3, *SIZE, dtype=torch.float64),
        "mean",
        torch.tensor([1, 2, 3]),
    ],
    ids=["zero", "number", "per-channel", "image", "mean", "ints"],
)
def test_fills(fill: Any) -> None:
    model, x = toy("squeeze"), images(2)
    positions = everywhere(SIZE, (6, 5))
    found = zf.occlusion_sweep(model, x, window=(6, 5), positions=positions, fill=fill)
    shown = x.mean((2, 3), keepdim=True).expand_as(x) if fill == "mean" else fill
    assert_exact(found, *dense_outputs(model, x, positions, (6, 5), shown))


def test_an_image_as_fill_leaves_equal_channels_untouched() -> None:
    model, x = toy("residual"), images(2)
    fill = x.clone()
    fill[:, 1] = 0.5
    positions = everywhere(SIZE, (5, 5))
    found = zf.occlusion_sweep(model, x, window=5, positions=positions, fill=fill)
    assert_exact(found, *dense_outputs(model, x, positions, (5, 5), fill))
    same = zf.occlusion_sweep(model, x, window=5, positions=positions, fill=x)
    torch.testing.assert_close(same.outputs, same.clean[:, None].expand_as(same.outputs), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["residual", "squeeze", "view"])
def test_targets(name: str) -> None:
    model, x = toy(name), images(2)
    whole = zf.occlusion_sweep(model, x, window=8)
    some = zf.occlusion_sweep(model, x, window=8, targets=[5, 0])
    assert torch.equal(some.outputs, whole.outputs[..., [5, 0]])
    assert torch.equal(some.clean, whole.clean)
    assert torch.equal(some.drop(torch.tensor([0, 5])), whole.drop(torch.tensor([0, 5])))
    assert torch.equal(some.best_class(), torch.tensor([5, 0])[whole.outputs[..., [5, 0]].argmax(-1)])
    with pytest.raises(ValueError, match="expected a sweep of all classes"):
        some.probability(0)
    with pytest.raises(ValueError, match=r"expected one of the sweep's targets \[5, 0\], got 1"):
        some.drop(1)


def test_maps_of_probability_class_and_drop() -> None:
    model, x = toy("residual"), images(2)
    found = zf.occlusion_sweep(model, x, window=(6, 8), stride=(5, 7), fill=2.0)
    flat = found.positions.flatten(0, 1)
    expected = dense_outputs(model, x, flat, (6, 8), 2.0)[0].unflatten(1, found.positions.shape[:2])
    torch.testing.assert_close(found.probability(3), expected.softmax(-1)[..., 3])
    each = found.probability(torch.tensor([3, 4]))
    torch.testing.assert_close(each, torch.stack([expected.softmax(-1)[0, ..., 3], expected.softmax(-1)[1, ..., 4]]))
    assert torch.equal(found.best_class(), expected.argmax(-1))
    torch.testing.assert_close(found.drop(2), model(x)[:, 2, None, None] - expected[..., 2])
    with pytest.raises(ValueError, match="expected a class from 0 to 6, got 7"):
        found.drop(7)


def activity_of(model: nn.Module, layer: str, x: Tensor) -> Tensor:
    """[N, C]: spatial sums of a module's output."""
    outputs: list[Tensor] = []
    handle = model.get_submodule(layer).register_forward_hook(lambda module, args, out: outputs.append(out.clone()))
    with torch.no_grad():
        model(x.clone())
    handle.remove()
    return outputs[-1].flatten(2).sum(2) if outputs[-1].dim() == 4 else outputs[-1]


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("residual", "body"),
        ("residual", "stem.0"),
        ("residual", "classes"),
        ("reused_block", "body.block"),
        ("squeeze", "body.gate"),
        ("squeeze_by_view", "body.fc"),
        ("avg_pool", "body"),
        ("group_norm", "body.1"),
        ("view", "fc"),
        ("view", "features.3"),
    ],
)
def test_activity_of_the_strongest_map(name: str, layer: str) -> None:
    model, x, window = toy(name), images(2), (5, 7)
    positions = everywhere(SIZE, window)
    found = zf.occlusion_sweep(model, x, window=window, positions=positions, fill=1.5, layer=layer, batch_size=4)
    assert_exact(found, *dense_outputs(model, x, positions, window, 1.5))
    clean = activity_of(model, layer, x)
    assert torch.equal(found.channel, clean.argmax(1))
    for n in range(2):
        expected = activity_of(model, layer, occluded(x[n : n + 1], positions, window, 1.5)[0])[:, found.channel[n]]
        torch.testing.assert_close(found.activity[n], expected, rtol=0, atol=1e-9 * expected.abs().max())


def test_activity_of_a_layer_with_channels_last() -> None:
    model, x = toy("channels_last"), images(2)
    positions = everywhere(SIZE, (5, 7))
    found = zf.occlusion_sweep(model, x, window=(5, 7), positions=positions, layer="body.a")
    clean = activity_of(nn.Sequential(model), "0.body.a", x)  # summed over rows and columns of [N, h, w, C]
    maps = zf.trace_model(model).activations(x, ["body.a"])["body.a"]
    assert clean.shape[1] == maps.shape[1]
    assert torch.equal(found.channel, maps.sum((1, 2)).argmax(1))
    assert found.activity.shape == (2, len(positions))
    for n in range(2):
        square = occluded(x[n : n + 1], positions, (5, 7), 0.0)[0]
        expected = zf.trace_model(model).activations(square, ["body.a"])["body.a"].sum((1, 2))[:, found.channel[n]]
        torch.testing.assert_close(found.activity[n], expected)


def test_activity_of_a_layer_that_the_output_does_not_need() -> None:
    class Aside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.aside = toy("residual"), nn.Conv2d(3, 4, 3).double()

        def forward(self, x: Tensor) -> Tensor:
            self.aside(x)
            return self.net(x)

    model, x, positions = Aside().eval(), images(1), everywhere(SIZE, (5, 5))
    found = zf.occlusion_sweep(model, x, window=5, positions=positions, layer="aside")
    expected = activity_of(model, "aside", occluded(x, positions, (5, 5), 0.0)[0])[:, found.channel[0]]
    torch.testing.assert_close(found.activity[0], expected)


@pytest.mark.parametrize("name", ["residual", "squeeze", "view", "group_norm"])
def test_the_batch_size_does_not_matter(name: str) -> None:
    model, x = toy(name), images(3)
    expected = zf.occlusion_sweep(model, x, window=5, stride=3).outputs
    for batch_size in (1, 7, 1000):
        found = zf.occlusion_sweep(model, x, window=5, stride=3, batch_size=batch_size).outputs
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_images_come_out_as_if_swept_alone() -> None:
    model, x = toy("cat_keywords"), images(3)
    whole = zf.occlusion_sweep(model, x, window=7, fill="mean", layer="top")
    for n in range(3):
        alone = zf.occlusion_sweep(model, x[n : n + 1], window=7, fill="mean", layer="top")
        torch.testing.assert_close(whole.outputs[n], alone.outputs[0], rtol=0, atol=1e-12)
        assert whole.channel[n] == alone.channel[0]
        torch.testing.assert_close(whole.activity[n], alone.activity[0], rtol=0, atol=1e-11)


class Branching(nn.Module):
    """What decides by values."""

    def __init__(self) -> None:
        super().__init__()
        self.net = toy("residual")

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x) if x.mean() < 100 else x.flatten(1)


@pytest.mark.parametrize(
    "model", [Branching().eval(), lambda x: toy("residual")(x.float().double())], ids=["module", "function"]
)
def test_what_cannot_be_traced_runs_on_whole_images(model: Callable[[Tensor], Tensor]) -> None:
    x, positions = images(2), everywhere(SIZE, (6, 6))
    expectation = pytest.warns(RuntimeWarning, match="Branching runs on whole images: it decides by the values")
    with expectation if isinstance(model, nn.Module) else nullcontext():
        found = zf.occlusion_sweep(model, x, window=6, positions=positions, fill="mean", batch_size=4)
    shown = x.mean((2, 3), keepdim=True).expand_as(x)
    assert_exact(found, *dense_outputs(model, x, positions, (6, 6), shown))
    some = zf.occlusion_sweep(model, x, window=6, positions=positions, targets=[3], fill="mean")
    torch.testing.assert_close(some.outputs, found.outputs[..., 3:4], rtol=0, atol=1e-12)
    with pytest.raises((ValueError, UnrecordableError), match=r"layer=None|decides by the values"):
        zf.occlusion_sweep(model, x, window=6, layer="net")


@pytest.mark.parametrize("form", ["list", "tuples", "generator"])
def test_sweeps_over_a_data_set(form: str) -> None:
    model, x = toy("residual"), images(4)
    sized = [x[0], x[1], x[2, :, :20, :18], x[3]]
    whole = [zf.occlusion_sweep(model, image[None], window=6, fill="mean").outputs for image in sized]

    def dataset() -> Any:
        if form == "generator":
            return (image for image in sized)
        return sized if form == "list" else [(image, "label") for image in sized]

    found = list(zf.occlusion_sweeps(model, dataset(), window=6, fill="mean"))
    assert all(torch.equal(a.outputs, b) for a, b in zip(found, whole, strict=True))
    resumed = list(zf.occlusion_sweeps(model, dataset(), window=6, fill="mean", start=3))
    assert len(resumed) == 1
    assert torch.equal(resumed[0].outputs, whole[3])


def test_a_resumed_sweep_loads_nothing_that_is_done() -> None:
    loaded = []

    class Photos:
        def __len__(self) -> int:
            return 5

        def __getitem__(self, index: int) -> Tensor:
            loaded.append(index)
            return images(1)[0]

    assert len(list(zf.occlusion_sweeps(toy("residual"), Photos(), window=12, start=2))) == 3
    assert loaded == [2, 3, 4]

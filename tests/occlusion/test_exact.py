"""Sweeps on windows against running the whole network on every occluded image, in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support import zoo
from support.hiding import dense_outputs, everywhere
from support.toys import SIZE, TOYS, images, toy
from sweeping import ON_FRAMES, ON_WINDOWS, squares, sweep_of
from torch import Tensor, nn

from zfkernels.occlusion import SweepValues, Watched

# Toys with a step that changes the whole frame, or that no kind carries windows through; all others run on windows.
WHOLE = {
    "adaptive", "cat_rows", "context", "group_norm", "means", "reflecting", "squeeze", "squeeze_by_view", "upsampling",
}  # fmt: skip
CLASSIFIERS = {"view", "reshape", "flatten_columns_first", "flatten_twice"}  # all behind their flattening runs whole


def assert_exact(found: SweepValues, outputs: Tensor, clean: Tensor, rtol: float = 1e-8) -> None:
    """Within ``rtol`` of what hiding does to each image, which must be something."""
    effect = (outputs.flatten(2) - clean.flatten(1)[:, None]).abs().amax((1, 2))
    assert (effect > 1e-5 * clean.flatten(1).abs().amax(1)).all()
    assert found.outputs.shape == outputs.shape
    assert ((found.outputs - outputs).flatten(1).abs().amax(1) <= rtol * effect).all()
    assert ((found.clean - clean).flatten(1).abs().amax(1) <= rtol * effect).all()


@pytest.mark.parametrize("name", TOYS)
def test_a_small_network(name: str) -> None:
    model, x, window = toy(name), images(3), (4, 3)
    positions = torch.cat([everywhere(SIZE, window), torch.randint(0, min(SIZE), (12, 2))])
    expected = dense_outputs(model, x, positions, window, 0.7)
    fill = torch.full((3,), 0.7, dtype=x.dtype)
    for rates in (ON_WINDOWS, ON_FRAMES):
        sweep = sweep_of(model, x, squares(positions, window), rates=rates)
        assert_exact(sweep(x, fill, batch_size=25), *expected)
        if rates is ON_WINDOWS and name not in WHOLE | CLASSIFIERS:
            assert [kind.name for kind in sweep.plan(x.device, x.dtype).tail][-1:] == [
                next(reversed(sweep.program.kinds))
            ]


@pytest.mark.parametrize("name", ["alexnet", "vgg11", "resnet18", "squeezenet1_0", "zfnet64"])
def test_a_known_network(name: str) -> None:
    model, x, window = zoo.network(name), zoo.photos(2, zoo.SIZES[name]), (9, 7)
    positions, fill = everywhere(zoo.SIZES[name], window), torch.tensor([0.3, -0.9, 1.7], dtype=torch.float64)
    sweep = sweep_of(model, x, squares(positions, window))
    assert_exact(sweep(x, fill), *dense_outputs(model, x, positions, window, fill))


@pytest.mark.parametrize("fill", ["images", "of each"])
@pytest.mark.parametrize("name", ["functional_relu", "normalised"])
def test_a_fill_that_is_an_image(name: str, fill: str) -> None:
    model, x, positions = toy(name), images(2), everywhere(SIZE, (5, 5))
    shown = images(5)[3:4].expand(2, -1, -1, -1) if fill == "images" else images(5)[3:]
    found = sweep_of(model, x, squares(positions, (5, 5)))(x, shown)
    assert_exact(found, *dense_outputs(model, x, positions, (5, 5), shown))


def test_boxes_of_different_sizes_and_boxes_without_pixels() -> None:
    model, x = toy("residual"), images(1)
    boxes = torch.tensor([[0, 0, 1, 1], [3, 4, 9, 2], [20, 28, 30, 30], [7, 7, 0, 5], [0, 0, *SIZE]])
    found = sweep_of(model, x, boxes)(x, torch.zeros(3, dtype=x.dtype))
    assert torch.allclose(found.outputs[:, 3], found.clean, rtol=0, atol=1e-12)
    for p, (top, left, height, width) in enumerate(boxes.tolist()):
        hidden = x.clone()
        hidden[..., top : top + height, left : left + width] = 0
        torch.testing.assert_close(found.outputs[:, p], model(hidden), rtol=1e-9, atol=1e-12)


class Segmenter(nn.Module):
    """Returns maps, vectors and a nested form."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.last = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(9, 4, 1)

    def forward(self, x: Tensor) -> dict[str, Any]:
        h = torch.relu(self.down(x))
        return {"maps": self.last(torch.cat([h, x], 1)), "pooled": (h.mean((2, 3)), h.amax((2, 3)).sum(1))}


def test_outputs_have_the_models_own_form() -> None:
    model, x, window = Segmenter().double().eval(), images(2), (4, 5)
    positions = everywhere(SIZE, window)
    found = sweep_of(model, x, squares(positions, window), rates=ON_WINDOWS)(x, torch.ones(3, dtype=x.dtype))
    for pick in (lambda y: y["maps"], lambda y: y["pooled"][0], lambda y: y["pooled"][1]):
        outputs, clean = dense_outputs(lambda image, pick=pick: pick(model(image)), x, positions, window, 1.0)
        assert pick(found.outputs).shape == outputs.shape
        torch.testing.assert_close(pick(found.outputs), outputs, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(pick(found.clean), clean, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("layer", ["stem.0", "body", "top", "classes"])
@pytest.mark.parametrize("rates", [ON_WINDOWS, ON_FRAMES], ids=["windows", "frames"])
def test_a_watched_layer(layer: str, rates: Any) -> None:
    model, x, window = toy("residual"), images(2), (4, 5)
    positions, kept = everywhere(SIZE, window), {}
    model.get_submodule(layer).register_forward_hook(lambda m, i, o: kept.__setitem__("value", o))

    def sums(image: Tensor) -> Tensor:
        model(image)
        return kept["value"].sum((2, 3)) if kept["value"].dim() == 4 else kept["value"]

    expected, clean = dense_outputs(sums, x, positions, window, 0.2)
    sweep = sweep_of(toy("residual"), x, squares(positions, window), rates=rates)
    recording = sweep.recording
    sweep = type(sweep)(recording, squares(positions, window), [Watched(recording.resolve(layer))], rates=rates)
    (found,) = sweep(x, torch.full((3,), 0.2, dtype=x.dtype), batch_size=5).activities
    channel = clean.argmax(1)
    assert torch.equal(found.units, channel)
    torch.testing.assert_close(found.clean, clean.amax(1), rtol=1e-10, atol=1e-12)
    of_channel = expected.gather(2, channel[:, None, None].expand(-1, len(positions), 1))[..., 0]
    torch.testing.assert_close(found.activity, of_channel, rtol=1e-10, atol=1e-12)


def test_the_size_of_a_chunk_changes_nothing_and_follows_from_the_budget() -> None:
    model, x, window = toy("residual"), images(2), (4, 5)
    positions = everywhere(SIZE, window)
    sweep, fill = sweep_of(model, x, squares(positions, window)), torch.zeros(3, dtype=x.dtype)
    at_once = sweep(x, fill)
    plan = sweep.plan(x.device, x.dtype)
    least = plan.least_bytes
    assert at_once.batch_size == 2 * len(positions)
    few = sweep(x, fill, memory=3 * least)
    assert 3 <= few.batch_size < 2 * len(positions)
    for found in (few, sweep(x, fill, batch_size=3)):
        torch.testing.assert_close(found.outputs, at_once.outputs, rtol=1e-12, atol=1e-13)
    again = sweep(x, fill, memory=3 * least)
    assert torch.equal(again.outputs, few.outputs)
    with pytest.raises(ValueError, match=f"expected memory at least {least} bytes"):
        sweep(x, fill, memory=least - 1)


def test_targets() -> None:
    model, x = toy("residual"), images(2)
    sweep, fill = sweep_of(model, x, squares(everywhere(SIZE, (4, 5)), (4, 5))), torch.zeros(3, dtype=x.dtype)
    some = sweep(x, fill, targets=torch.tensor([5, 0]))
    assert torch.equal(some.outputs, sweep(x, fill).outputs[..., [5, 0]])
    with pytest.raises(ValueError, match=r"expected targets from 0 to 6, got \[7\]"):
        sweep(x, fill, targets=torch.tensor([7]))


def test_a_network_that_puts_its_images_together_is_refused() -> None:
    class Mixing(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return ((x - x.mean()) / x.std()).mean((2, 3))

    x = images(2)
    with pytest.raises(ValueError, match="computes each image alone, got step 'mean'"):
        sweep_of(Mixing().eval(), x, torch.tensor([[0, 0, 2, 2]]))(x, torch.zeros(3, dtype=x.dtype))

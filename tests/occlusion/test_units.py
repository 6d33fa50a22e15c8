"""What happens to every map of a layer, against the network on every occluded image, in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.hiding import everywhere, occluded
from support.toys import SIZE, images, toy
from sweeping import ON_FRAMES, ON_WINDOWS, squares, sweep_of
from torch import Tensor, nn

import zfkernels as zf
from zfkernels.occlusion import Watched

WINDOW = (5, 6)


def statistics(model: nn.Module, layer: str, x: Tensor, statistic: str) -> tuple[Tensor, Tensor]:
    """[N, P, C] and clean [N, C], written plainly."""
    positions, kept = everywhere(SIZE, WINDOW), {}
    handle = model.get_submodule(layer).register_forward_hook(lambda m, i, o: kept.__setitem__("value", o.clone()))
    with torch.no_grad():
        values = []
        for n in range(len(x)):
            model(x[n : n + 1].clone())
            clean = kept["value"]
            model(occluded(x[n : n + 1], positions, WINDOW, 0.2)[0])
            values.append((clean, kept["value"]))
    handle.remove()
    rows = []
    for clean, hidden in values:
        both = torch.cat([clean, hidden])
        both = both.flatten(2) if both.dim() == 4 else both[:, :, None]
        if clean.dim() == 2 or statistic == "sum":
            rows.append(both.sum(2))
        elif statistic == "max":
            rows.append(both.amax(2))
        else:
            place = clean.flatten(2).argmax(2)
            rows.append(both.gather(2, place[:, :, None].expand(len(both), -1, 1))[:, :, 0])
    found = torch.stack(rows)
    return found[:, 1:], found[:, 0]


@pytest.mark.parametrize("rates", [ON_WINDOWS, ON_FRAMES, None], ids=["windows", "frames", "as planned"])
@pytest.mark.parametrize("statistic", ["sum", "max", "value"])
@pytest.mark.parametrize("layer", ["stem.0", "body", "top", "classes"])
def test_every_map(layer: str, statistic: str, rates: Any) -> None:
    model, x = toy("residual"), images(2)
    expected, clean = statistics(model, layer, x, statistic)
    sweep = sweep_of(model, x, squares(everywhere(SIZE, WINDOW), WINDOW), rates=rates)
    watched = Watched(sweep.recording.resolve(layer), None, statistic)
    sweep = type(sweep)(sweep.recording, squares(everywhere(SIZE, WINDOW), WINDOW), [watched], rates=rates)
    (found,) = sweep(x, torch.full((3,), 0.2, dtype=x.dtype), batch_size=5).activities
    torch.testing.assert_close(found.activity, expected, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(found.clean, clean, rtol=1e-9, atol=1e-11)
    assert (expected - clean[:, None]).abs().amax() > 1e-3
    assert (found.places is not None) == (statistic == "value")


def test_a_layer_that_runs_whole() -> None:
    model, x = toy("squeeze"), images(2)
    expected, clean = statistics(model, "body", x, "value")
    found = zf.occlusion_sweep(
        model, x, window=WINDOW, positions=everywhere(SIZE, WINDOW), fill=0.2, layer="body", units="all",
        statistic="value",
    )  # fmt: skip
    torch.testing.assert_close(found.activity, expected, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(found.clean_activity, clean, rtol=1e-9, atol=1e-11)


def test_some_maps_and_the_strongest_by_its_maximum() -> None:
    model, x, positions = toy("residual"), images(2), everywhere(SIZE, WINDOW)
    arguments = {"window": WINDOW, "positions": positions, "fill": 0.2, "layer": "body", "statistic": "max"}
    every = zf.occlusion_sweep(model, x, units="all", **arguments)
    assert every.activity.shape == (2, len(positions), 6)
    assert every.channel.tolist() == list(range(6))
    for units in ([4, 0], torch.tensor([4, 0])):
        some = zf.occlusion_sweep(model, x, units=units, **arguments)
        assert torch.equal(some.activity, every.activity[..., [4, 0]])
        assert torch.equal(some.clean_activity, every.clean_activity[:, [4, 0]])
        assert some.channel.tolist() == [4, 0]
    one = zf.occlusion_sweep(model, x, **arguments)
    assert torch.equal(one.channel, every.clean_activity.argmax(1))
    assert torch.equal(one.activity, torch.stack([every.activity[n, :, c] for n, c in enumerate(one.channel)]))
    assert "activity of 6 maps" in every.headline()
    assert every.variables()["activity"][0] == ("image", "place", "unit")
    assert "activity" not in every.columns()
    assert "activity" in one.columns()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"units": "all"}, ValueError, "expected units with a layer, got layer=None"),
        ({"units": "some", "layer": "body"}, ValueError, "expected units None, 'all' or maps, got 'some'"),
        ({"units": [6], "layer": "body"}, ValueError, r"expected units from 0 to 5, got \[6\]"),
        ({"units": [0.5], "layer": "body"}, TypeError, r"expected units None, 'all' or a list of maps, got \[0.5\]"),
        ({"statistic": "mean", "layer": "body"}, ValueError, "expected statistic one of .*, got 'mean'"),
    ],
)
def test_refused(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"occlusion_sweep: {message}"):
        zf.occlusion_sweep(toy("residual"), images(1), window=8, **arguments)


def test_the_empirical_receptive_field_is_the_mean_share_that_hiding_takes_away() -> None:
    model, x, window = toy("residual"), images(3), (6, 6)
    found = zf.occlusion.empirical_receptive_field(model, x, "stem.0", [4, 1], window=window, stride=5, fill=0.2)
    kept: dict[str, Tensor] = {}
    model.get_submodule("stem.0").register_forward_hook(lambda m, i, o: kept.__setitem__("value", o.clone()))
    rows, columns = found.shape[1:]
    for u, unit in enumerate((4, 1)):
        for row in range(rows):
            for column in range(columns):
                shares = []
                for image in x:
                    hidden = image.clone()
                    hidden[:, row * 5 : row * 5 + 6, column * 5 : column * 5 + 6] = 0.2
                    with torch.no_grad():
                        model(torch.stack([image, hidden]))
                    clean, other = kept["value"][:, unit].flatten(1)
                    if clean.max() > 0:
                        shares.append((clean.max() - other[clean.argmax()]) / clean.max())
                torch.testing.assert_close(found[u, row, column], torch.stack(shares).mean(), rtol=1e-9, atol=1e-10)
    assert found.max() > 0.2


def test_maps_without_what_comes_after_them() -> None:
    model, x, positions = toy("residual"), images(2), everywhere(SIZE, WINDOW)
    arguments = {"window": WINDOW, "positions": positions, "fill": 0.2, "layer": "stem.0", "units": "all"}
    expected = zf.occlusion_sweep(model, x, **arguments)
    found = zf.occlusion_sweep(model, x, outputs=False, **arguments)
    assert torch.equal(found.activity, expected.activity)
    assert torch.equal(found.clean_activity, expected.clean_activity)
    assert (found.outputs, found.clean) == ((), ())
    assert "2 images" in found.headline()
    assert set(found.variables()) == {"positions", "channel", "activity", "clean_activity"}
    several = zf.occlusion_sweep(model, x, outputs=False, **{**arguments, "fill": [0.2, "mean"]})
    assert torch.equal(several.variables()["activity"][1][0], expected.activity)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "outputs=False with a layer"),
        ({"layer": "body", "reduce": lambda outputs, image, clean: outputs}, "without reduce"),
        ({"layer": "body", "targets": 1}, "targets=None with outputs=False"),
    ],
)
def test_maps_alone_refuse_what_is_said_of_outputs(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        zf.occlusion_sweep(toy("residual"), images(1), window=WINDOW, outputs=False, **arguments)

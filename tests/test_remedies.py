"""What people give by mistake is answered with what to do instead."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import zfkernels as zf
from zfkernels.analysis.invariance import invariance
from zfkernels.models import Preprocess


def network() -> nn.Module:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)).eval()
    model.preprocess = Preprocess(12, 12)  # type: ignore[assignment]
    return model


FUNCTIONS = {
    "occlusion_sweep": lambda images: zf.occlusion_sweep(network(), images, window=4),
    "project": lambda images: zf.DeconvNet(network()).project(images, "1"),
    "invariance": lambda images: invariance(network(), images, "scale", [1.1], layers=["1"]),
}
PIXELS = torch.randint(0, 256, (2, 3, 12, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
MAKES = "preprocess(picture)[None] makes them, preprocess = zfkernels.models.get_preprocess(name)"


@pytest.mark.parametrize("name", list(FUNCTIONS))
@pytest.mark.parametrize(
    ("images", "message"),
    [
        (PIXELS, f"got torch.uint8, pixels that are not normalised yet; {MAKES}"),
        (Image.new("RGB", (12, 12)), f"got Image, a picture; {MAKES}"),
        ([Image.new("RGB", (12, 12))], f"got list; {MAKES}"),
        (np.zeros((2, 3, 12, 12), np.float32), "got ndarray; torch.from_numpy makes a tensor, normalised and ["),
        ([torch.zeros(3, 12, 12)] * 2, "got list; torch.stack(images) makes one tensor of images of one size"),
    ],
    ids=["uint8", "picture", "pictures", "numpy", "tensors"],
)  # fmt: skip
def test_images(name: str, images: Any, message: str) -> None:
    with pytest.raises(TypeError) as raised:
        FUNCTIONS[name](images)
    assert str(raised.value).startswith(f"{name}: expected images a floating-point tensor [N, C, H, W], {message}")


@pytest.mark.parametrize("name", list(FUNCTIONS))
def test_one_warning_for_pixels_up_to_255(name: str) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")  # Python's own: a text once for each place
        FUNCTIONS[name](PIXELS.float())
    (message,) = (str(warning.message) for warning in caught)
    assert message.startswith(f"{name}: images look like pixels from 0 to 255, but black to white is -2.12 to 2.64 ")
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        FUNCTIONS[name](PIXELS.float() / 255)
        FUNCTIONS[name](PIXELS.float() - 128)  # the paper's own scale: not positive


def test_indices_of_torch() -> None:
    values, indices = nn.functional.max_pool2d(torch.rand(1, 2, 6, 6), 2, return_indices=True)
    with pytest.raises(TypeError, match=r"indices of F\.max_pool2d become switches with indices_to_switches"):
        zf.ops.max_unpool2d_with_switches(values, indices, 2, output_size=(6, 6))
    switches = zf.ops.indices_to_switches(indices, 2, input_size=(6, 6))
    expected = nn.functional.max_unpool2d(values, indices, 2)
    assert torch.equal(zf.ops.max_unpool2d_with_switches(values, switches, 2, output_size=(6, 6)), expected)


def test_the_name_is_that_of_the_function_that_was_called() -> None:
    model, images = network(), torch.rand(1, 3, 12, 12)
    calls = {
        "occlusion_sweep": lambda **given: zf.occlusion_sweep(model, images, **given),
        "occlusion_sweeps": lambda **given: next(zf.occlusion_sweeps(model, images, **given)),
    }
    wrong: list[dict[str, Any]] = [
        {"window": 13}, {"window": 0}, {"window": "4"}, {"window": 4, "layer": "2nd"}, {"window": 4, "fill": "grey"},
        {"window": 4, "targets": [9]}, {"window": 4, "batch_size": 0}, {"window": 4, "precision": "int8"},
        {"window": 4, "positions": torch.zeros(1, 2)}, {"window": 4, "layer": 3},
    ]  # fmt: skip
    for name, call in calls.items():
        for given in wrong:
            with pytest.raises((TypeError, ValueError), match=rf"^{name}: expected "):
                call(**given)
    with pytest.raises(ValueError, match=r"^occlusion_sweep: expected model in eval mode"):
        zf.occlusion_sweep(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Dropout()).train(), images, window=4)
    with pytest.raises(ValueError, match=r"^explain_plan: expected"):
        zf.explain_plan(model, 12, 13)


def test_errors_of_the_users_own_code_stay_as_they_are() -> None:
    from zfkernels.signed import signed

    @signed("called")
    def run(error: Exception) -> None:
        raise error

    for error in (ValueError("mine: no"), KeyError("network: no"), ValueError(), ValueError(3), TypeError("a", "b")):
        words = error.args
        with pytest.raises(type(error)):
            run(error)
        assert error.args == words
    with pytest.raises(ValueError, match=r"^called: expected layer: a name$"):
        run(ValueError("network: expected layer: a name"))


class Twice(nn.Module):
    """A rectifier that is called three times, between blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        self.relu = nn.ReLU()
        self.head = nn.Linear(4, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu(self.relu(self.body(x)))
        return self.relu(self.head(x.mean((2, 3))))


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        ("rellu", r"near matches: \['relu \(the last of 3 calls, relu:0 the first\)'\]"),
        ("bodies", r"near matches: \['body'"),
        ("relu:3", r"relu is called 3 times: name relu:0 to relu:2$"),
        ("head:1", r"head is called once: name head$"),
        ("body.conv", r"near matches: \['body\.1', 'body\.0', 'body'\]"),
        ("###", r"near matches: \['body', 'relu \(the last of 3 calls, relu:0 the first\)', 'head', 'body\.0'"),
    ],
)
def test_layers_that_are_near(layer: str, said: str) -> None:
    model = Twice().eval()
    with pytest.raises(ValueError, match=f"got {layer!r}; {said}"):
        zf.occlusion_sweep(model, torch.rand(1, 3, 12, 12), window=4, layer=layer)

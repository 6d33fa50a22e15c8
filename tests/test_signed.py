"""Errors and warnings name the function that was called, not one inside it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import zfkernels as zf
from zfkernels.occlusion.precision import _warn as _warn_of_precision
from zfkernels.occlusion.precision import say_if_no_faster
from zfkernels.occlusion.receptive_field import empirical_receptive_field
from zfkernels.signed import signed, warn_user


class Decides(nn.Module):
    """Its way depends on its values, so that it runs on whole images."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3)) if bool(x.sum() > 0) else x.amax((2, 3))


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()


IMAGES = torch.rand(2, 3, 12, 12, generator=torch.Generator().manual_seed(0))
SQUARE: dict[str, Any] = {"window": 4, "stride": 4}
PLACES, PAIRS, ORDER = torch.tensor([[0, 0], [4, 4]]), torch.tensor([[0, 1]]), torch.arange(9)
PARTS = {"eye": torch.full((2, 2), 5)}
BAD_FILL: dict[str, Callable[[], Any]] = {
    "occlusion_sweep": lambda: zf.occlusion_sweep(network(), IMAGES, fill="purple", **SQUARE),
    "occlusion_sweeps": lambda: list(zf.occlusion_sweeps(network(), list(IMAGES), fill="purple", **SQUARE)),
    "deletion_curve": lambda: zf.deletion_curve(network(), IMAGES, ORDER, window=4, fill="purple"),
    "insertion_curve": lambda: zf.insertion_curve(network(), IMAGES, ORDER, window=4, fill="purple"),
    "occlusion_pairs": lambda: zf.occlusion_pairs(
        network(), IMAGES, window=4, positions=PLACES, pairs=PAIRS, fill="purple"
    ),
    "empirical_receptive_field": lambda: empirical_receptive_field(network(), IMAGES, "1", fill="purple", **SQUARE),
    "correspondence": lambda: zf.correspondence(
        network(), IMAGES, PARTS, layers=["1"], window=4, fill="purple",  # type: ignore[arg-type]
    ),
    "invariance": lambda: zf.invariance(network(), IMAGES, "scale", layers=["1"], fill="purple"),  # type: ignore[arg-type]
}  # fmt: skip
BAD_LAYER: dict[str, Callable[[], Any]] = {
    "occlusion_sweep": lambda: zf.occlusion_sweep(network(), IMAGES, layer="one", **SQUARE),
    "occlusion_sweeps": lambda: list(zf.occlusion_sweeps(network(), list(IMAGES), layer="one", **SQUARE)),
    "empirical_receptive_field": lambda: empirical_receptive_field(network(), IMAGES, "one", **SQUARE),
    "project": lambda: zf.DeconvNet(network()).project(IMAGES, "one"),
    "correspondence": lambda: zf.correspondence(network(), IMAGES, PARTS, layers=["one"], window=4),
    "invariance": lambda: zf.invariance(network(), IMAGES, "scale", layers=["one"]),
    "evolution": lambda: zf.evolution([(0, network())], IMAGES, {"one": torch.tensor([0])}),
}
BAD_BATCHES: dict[str, Callable[[], Any]] = {
    "occlusion_sweep": lambda: zf.occlusion_sweep(network(), IMAGES, batch_size=-1, **SQUARE),
    "correspondence": lambda: zf.correspondence(network(), IMAGES, PARTS, layers=["1"], window=4, batch_size=-1),
    "invariance": lambda: zf.invariance(network(), IMAGES, "scale", layers=["1"], batch_size=-1),
    "diagnose": lambda: zf.diagnose(network(), IMAGES, batch_size=-1),
    "evolution": lambda: zf.evolution([(0, network())], IMAGES, {"1": torch.tensor([0])}, batch_size=-1),
}


@pytest.mark.parametrize(
    ("name", "argument", "call"),
    [
        (name, argument, call)
        for argument, calls in (("fill", BAD_FILL), ("layer", BAD_LAYER), ("batch_size", BAD_BATCHES))
        for name, call in calls.items()
    ],
)
def test_errors(name: str, argument: str, call: Callable[[], Any]) -> None:
    with pytest.raises((TypeError, ValueError), match=rf"^{name}: expected {argument} "):
        call()


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("occlusion_sweep", lambda: zf.occlusion_sweep(Decides().eval(), IMAGES, **SQUARE)),
        ("occlusion_sweeps", lambda: list(zf.occlusion_sweeps(Decides().eval(), list(IMAGES), **SQUARE))),
    ],
)
def test_a_warning_of_whole_images(name: str, call: Callable[[], Any]) -> None:
    with pytest.warns(RuntimeWarning, match=f"^{name}: Decides runs on whole images: it decides by the val") as caught:
        call()
    assert caught[0].filename == __file__


def test_a_warning_of_pixels() -> None:
    model = network()
    model.preprocess = zf.models.Preprocess(12, 12)  # type: ignore[assignment]
    with pytest.warns(UserWarning, match="^occlusion_sweeps: images look like pixels from 0 to 255"):
        list(zf.occlusion_sweeps(model, list(255 * IMAGES), **SQUARE))


def test_a_warning_of_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zfkernels.occlusion.precision.cpu_variants", lambda: ("scalar",))
    _warn_of_precision.cache_clear()
    with pytest.warns(RuntimeWarning, match="^occlusion_sweeps: precision=torch.bfloat16"), signed("occlusion_sweeps"):
        say_if_no_faster("occlusion_sweep", torch.bfloat16, torch.device("cpu"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # once in a process
        say_if_no_faster("occlusion_sweep", torch.bfloat16, torch.device("cpu"))
    _warn_of_precision.cache_clear()


def test_the_outermost_name_stands() -> None:
    with pytest.warns(UserWarning, match="^outer: words"), signed("outer"), signed("occlusion_sweep"):
        warn_user("occlusion_sweep", "words")
    with pytest.warns(UserWarning, match="^occlusion_sweep: words"):
        warn_user("occlusion_sweep", "words")  # the name does not outlive its function
    with pytest.warns(UserWarning, match="^build_gallery: words"), signed("outer"):
        warn_user("build_gallery", "words")  # a public function's own name stays

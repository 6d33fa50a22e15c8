"""OcclusionSensitivity: MONAI's numbers, on record and from MONAI itself; and where MONAI's are wrong."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from typing import Any

import pytest
import torch
from monai_samples import CELLS, RECORDED, SAMPLES, image, network, run
from torch import Tensor, nn

from zfkernels.monai_api import OcclusionSensitivity
from zfkernels.occlusion.engine import WindowSweep

# MONAI joins the places in the image's dtype, but makes its weights in float32 and returns float32; numbers below 4.
ROUNDING = 4 * 2**-23


def quiet(*arguments: Any, **keywords: Any) -> OcclusionSensitivity:
    return OcclusionSensitivity(*arguments, verbose=False, **keywords)


@pytest.mark.parametrize("name", SAMPLES)
def test_numbers_of_monai_on_record(name: str) -> None:
    recorded = json.loads(RECORDED.read_text(encoding="utf-8"))["samples"][name]
    found, likely = run(OcclusionSensitivity, name)
    assert list(found.shape) == recorded["shape"]
    expected = torch.tensor(recorded["found"], dtype=torch.float64)
    assert float((found.flatten()[::CELLS] - expected).abs().max()) <= ROUNDING
    assert likely.dtype == torch.int64
    assert likely.flatten()[::CELLS].tolist() == recorded["likely"]
    assert float(expected.std()) > 0.01  # a map of something


@pytest.mark.parametrize("name", SAMPLES)
def test_numbers_of_the_monai_that_is_installed(name: str) -> None:
    monai = pytest.importorskip("monai.visualize", reason="MONAI is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of MONAI's own indexing
        expected, best = run(monai.OcclusionSensitivity, name)
    found, likely = run(OcclusionSensitivity, name)
    assert found.shape == expected.shape
    assert float((found - expected).abs().max()) <= ROUNDING
    assert torch.equal(likely, best)


def by_hand(model: nn.Module, x: Tensor, mask: int, step: int, shown: Any) -> Tensor:
    """The mean over the places of the model's outputs at each cell, place by place."""
    height, width = x.shape[2:]
    total = count = torch.zeros((), dtype=x.dtype)
    for row in [min(i, height - mask) for i in range(0, height - mask + step, step)]:
        for column in [min(i, width - mask) for i in range(0, width - mask + step, step)]:
            occluded, cells = x.clone(), torch.zeros(height, width, dtype=x.dtype)
            at = (slice(None), slice(None), slice(row, row + mask), slice(column, column + mask))
            occluded[at] = shown(x[at])
            cells[at[2:]] = 1
            total = total + model(occluded)[0][:, None, None] * cells
            count = count + cells
    return (total / count)[None]


def test_mean_patch_shows_the_mean_of_what_is_hidden() -> None:
    model, x = network(2, 3, 5), image(2, 3)
    found, _ = quiet(model, 4, mode="mean_patch", overlap=0.5, activate=False)(x)
    with torch.no_grad():
        expected = by_hand(model, x, 4, 2, lambda patch: patch.mean())
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


def test_a_function_says_what_is_shown() -> None:
    model, x = network(2, 3, 5), image(2, 3)
    seen = []

    def shown(whole: Tensor, patch: Tensor) -> Tensor:
        seen.append((tuple(whole.shape), tuple(patch.shape)))
        return patch.flip(2)

    found, _ = quiet(model, 4, mode=shown, overlap=0.5, activate=False)(x)
    assert set(seen) == {((1, 3, 11, 13), (1, 3, 4, 4))}
    with torch.no_grad():
        expected = by_hand(model, x, 4, 2, lambda patch: patch.flip(2))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


def test_one_output_is_a_sigmoid() -> None:
    model, x = network(2, 3, 1), image(2, 3)
    raw, _ = quiet(model, 11, activate=False, overlap=0.0, mode=0.0)(x)
    found, _ = quiet(model, 11, overlap=0.0, mode=0.0)(x)
    torch.testing.assert_close(found[0, 0, :, 0], raw[0, 0, :, 0].sigmoid())
    assert float((found - 1).abs().min()) > 0.001


def test_activate_may_be_a_function() -> None:
    model, x = network(2, 1, 5), image(2, 1)
    raw, _ = quiet(model, 11, activate=False, overlap=0.0)(x)
    found, _ = quiet(model, 11, activate=lambda out: out[:, 1:3] * 2, overlap=0.0)(x)
    torch.testing.assert_close(found[..., 0], raw[:, 1:3, :, 0] * 2)


def test_images_run_on_windows_and_volumes_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    called = []
    monkeypatch.setattr(
        WindowSweep, "__call__", lambda self, *arguments, **rest: called.append(1) or pytest.skip("never")
    )
    run(OcclusionSensitivity, "volume")
    assert not called
    with pytest.raises(pytest.skip.Exception):
        run(OcclusionSensitivity, "default overlap")
    assert called


@pytest.mark.parametrize("mode", ["gaussian", "mean_patch", "mean_img", 0.25])
def test_a_function_and_a_module_give_one_number(mode: Any) -> None:
    model, x = network(2, 3, 5), image(2, 3)
    on_windows, likely = quiet(model, 4, mode=mode)(x)
    whole, same = quiet(lambda images: model(images), 4, n_batch=3, mode=mode)(x)
    torch.testing.assert_close(on_windows, whole, rtol=0, atol=1e-12)
    assert torch.equal(likely, same)


class Scaled(nn.Module):
    """A network with a further argument, and one that decides by values."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, factor: float = 1.0) -> Tensor:
        return self.model(x) * (factor if float(x.sum()) > -1e9 else 0.0)


def test_further_arguments_reach_the_model_and_what_cannot_be_recorded_runs() -> None:
    model, x = network(2, 3, 5), image(2, 3)
    once, _ = quiet(model, 4, activate=False)(x)
    twice, _ = quiet(Scaled(model), 4, activate=False)(x, factor=2.0)
    plain, _ = quiet(Scaled(model), 4, activate=False)(x)
    torch.testing.assert_close(twice, 2 * once)
    torch.testing.assert_close(plain, once)


def test_modules_are_left_as_they_were() -> None:
    model = nn.Sequential(network(2, 3, 5), nn.Dropout(0.5), nn.Dropout(0.5))
    model.train()
    model[2].eval()
    before = [module.training for module in model.modules()]
    found, _ = quiet(model, 4)(image(2, 3))
    torch.testing.assert_close(found, quiet(network(2, 3, 5), 4)(image(2, 3))[0])
    assert [module.training for module in model.modules()] == before


def test_nan_in_the_image_is_in_the_map() -> None:
    x = image(2, 3)
    x[0, 0, 5, 5] = float("nan")
    found, _ = quiet(network(2, 3, 5), 4, mode=0.0)(x)
    assert bool(found.isnan().any())


def test_float32_in_float32_out() -> None:
    found, _ = quiet(network(2, 3, 5).float(), 4)(image(2, 3).float())
    assert found.dtype == torch.float32


@pytest.mark.parametrize(
    ("arguments", "call", "error", "sentence"),
    [
        ({"mode": "grey"}, {}, ValueError, "expected mode one of"),
        ({"mode": None}, {}, TypeError, "expected mode one of"),
        ({"mask_size": 14}, {}, ValueError, "expected mask_size no larger than the image"),
        ({"mask_size": 0}, {}, ValueError, "expected mask_size at least 1"),
        ({"mask_size": (3, 3, 3)}, {}, ValueError, "expected mask_size a number or one for each of 2 axes"),
        ({"overlap": 1.0}, {}, ValueError, "expected overlap at least 0 and below 1"),
        ({"n_batch": 0}, {}, ValueError, "expected n_batch an int of at least 1"),
        ({}, {"b_box": [3, 3, 0, 5]}, ValueError, "expected b_box with a cell"),
        ({}, {"b_box": [0, 5]}, ValueError, "expected b_box a first and a last cell for each of 2 axes"),
        ({"activate": lambda out: out.sum(1)}, {}, ValueError, "expected activate to return a tensor"),
    ],
)
def test_bad_arguments(arguments: dict, call: dict, error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=f"OcclusionSensitivity: {sentence}"):
        quiet(network(2, 3, 5), **{"mask_size": 4, **arguments})(image(2, 3), **call)


def test_bad_images_and_models() -> None:
    sensitivity = quiet(network(2, 3, 5), 4)
    with pytest.raises(ValueError, match="expected x one image"):
        sensitivity(image(2, 3).expand(2, -1, -1, -1))
    with pytest.raises(TypeError, match=r"expected x a floating tensor, got torch\.int64"):
        sensitivity(image(2, 3).long())
    with pytest.raises(TypeError, match="expected nn_module a module or a function, got int"):
        quiet(3)
    with pytest.raises(ValueError, match=r"expected nn_module to return a tensor \[\d+, classes\], got \("):
        quiet(nn.Identity(), 4)(image(2, 3))


def test_monai_is_not_imported() -> None:
    program = "import sys, zfkernels.monai_api; sys.exit('monai' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0

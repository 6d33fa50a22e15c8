"""zf.FeatureAblation against Captum itself: numbers, forms of arguments and refusals."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.toys import SIZE, images, toy
from torch import Tensor, nn

import zfkernels as zf
from zfkernels.captum_api import feature_ablation

captum = pytest.importorskip("captum.attr", reason="captum, which these tests compare with, is not installed")
pytestmark = pytest.mark.filterwarnings("ignore")  # captum warns on every call


@pytest.fixture
def sweeps(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Grows by one entry for each sweep on windows."""
    seen: list[Any] = []
    swept = feature_ablation._swept
    monkeypatch.setattr(feature_ablation, "_swept", lambda *args: seen.append(args) or swept(*args))
    return seen


def compare(forward: Any, inputs: Any, **arguments: Any) -> None:
    ours = zf.FeatureAblation(forward).attribute(inputs, **arguments)
    theirs = captum.FeatureAblation(forward).attribute(inputs, **arguments)
    assert type(ours) is type(theirs)
    for mine, other in zip(*((x if isinstance(x, tuple) else (x,)) for x in (ours, theirs)), strict=True):
        assert mine.dtype == other.dtype
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-9 * other.abs().max().item())
        assert other.abs().max() > 0


def regions(count: int = 9) -> Tensor:
    coarse = torch.randint(3, 3 + count, (1, 1, 6, 7), generator=torch.Generator().manual_seed(0)).double()
    return nn.functional.interpolate(coarse, SIZE, mode="nearest")[0, 0].long()


CASES: dict[str, dict[str, Any]] = {
    "plain": {"target": 3},
    "of each example": {"target": torch.tensor([1, 4])},
    "all classes": {},
    "a number": {"target": 0, "baselines": 0.7},
    "an image": {"target": 0, "baselines": torch.randn(1, 3, *SIZE, dtype=torch.float64)},
    "an image of each": {"target": 0, "baselines": torch.randn(2, 3, *SIZE, dtype=torch.float64)},
    "several at once": {"target": 2, "perturbations_per_eval": 4},
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize("name", ["residual", "squeeze"])
def test_regions_of_images(name: str, case: dict[str, Any], sweeps: list[Any]) -> None:
    compare(toy(name), images(2), feature_mask=regions()[None, None], **case)
    assert len(sweeps) == 1


def test_superpixels(sweeps: list[Any]) -> None:
    segmentation = pytest.importorskip("skimage.segmentation", reason="scikit-image is not installed")
    x = images(1)
    found = segmentation.slic(x[0].permute(1, 2, 0).numpy(), n_segments=12, compactness=30, start_label=0)
    assert found.max() >= 3
    compare(toy("residual"), x, feature_mask=torch.from_numpy(found)[None, None], target=1)
    assert sweeps


def test_nan_runs_whole(sweeps: list[Any]) -> None:
    x, model = images(2).float(), nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    x[0, 1, 9, 9] = torch.nan
    found = zf.FeatureAblation(model.eval()).attribute(x, feature_mask=regions()[None, None], target=1)
    assert found[0].isnan().all()
    assert found[1].isfinite().all()
    assert not sweeps


def test_masks_that_differ_between_channels_run_whole(sweeps: list[Any]) -> None:
    mask = torch.stack([regions(), regions() + 2, regions()])[None]
    compare(toy("residual"), images(2), feature_mask=mask, target=1, perturbations_per_eval=3)
    assert not sweeps


def test_several_inputs_share_groups_and_take_further_arguments() -> None:
    class Sum(nn.Module):
        def forward(self, a: Tensor, b: Tensor, weight: Tensor, power: int) -> Tensor:
            mixed = (a.flatten(1).sum(1, keepdim=True) * b.flatten(1).tanh()).sum(1) + b.flatten(1)[:, 0] ** power
            return torch.stack([mixed * weight, mixed.square()], 1)

    inputs = (torch.randn(3, 2, 5, dtype=torch.float64), torch.randn(3, 4, dtype=torch.float64))
    masks = (torch.randint(0, 4, (1, 2, 5)), torch.tensor([[0, 1, 1, 9]]))
    more = (torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64), 3)
    for mask in (masks, None):
        for at_once in (1, 3):
            compare(
                Sum(), inputs, feature_mask=mask, additional_forward_args=more, target=[0, 1, 0],
                baselines=(0.5, 1), perturbations_per_eval=at_once,
            )  # fmt: skip


def test_one_number_for_all_examples() -> None:
    compare(lambda x: x.square().sum(), torch.randn(2, 5, dtype=torch.float64))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"feature_mask": torch.zeros(24, 31).long()},
            ValueError,
            r"feature_mask that broadcasts to \(1, 3, 25, 31\), got \(24, 31\)",
        ),
        ({"feature_mask": torch.zeros(SIZE)}, TypeError, "feature_mask int tensors, got torch.float32"),
        ({"feature_mask": (regions(), regions())}, ValueError, "feature_mask one for each input, got 2 for 1"),
        ({"perturbations_per_eval": 0}, ValueError, "perturbations_per_eval an int of at least 1, got 0"),
        ({"baselines": torch.zeros(4, 4)}, ValueError, r"baselines that broadcast to \(1, 3, 25, 31\), got \(4, 4\)"),
        ({"baselines": "mean"}, TypeError, "baselines numbers or tensors, got str"),
    ],
)
def test_refused(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"FeatureAblation: expected {message}"):
        zf.FeatureAblation(toy("residual")).attribute(images(1), **arguments)

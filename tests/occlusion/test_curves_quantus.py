"""Deletion curves against Quantus' flipping of regions, where Quantus is installed."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support.toys import images, toy

import zfkernels as zf

SIDE, WINDOW, FILL = 28, 7, 0.3


@pytest.mark.parametrize("softmax", [False, True], ids=["outputs", "probabilities"])
@pytest.mark.parametrize("order", ["morf", "lerf"])
def test_falls_of_the_output(order: str, softmax: bool) -> None:
    quantus = pytest.importorskip("quantus", reason="Quantus is not installed")
    model = toy("residual").float()
    x = F.interpolate(images(3).float(), (SIDE, SIDE))
    attribution = torch.randn(3, SIDE, SIDE, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        target = model(x).argmax(1)
    metric = quantus.RegionPerturbation(
        patch_size=WINDOW, order=order, regions_evaluation=(SIDE // WINDOW) ** 2, perturb_baseline=FILL,
        abs=False, normalise=False, disable_warnings=True, return_aggregate=False,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Quantus' own
        falls = metric(
            model=model, x_batch=x.numpy(), y_batch=target.numpy(), a_batch=attribution[:, None].numpy(),
            softmax=softmax, device="cpu",
        )  # fmt: skip
    expected = torch.from_numpy(np.array(falls, dtype=np.float64))
    signed = attribution if order == "morf" else -attribution
    curve = zf.deletion_curve(model, x, signed, window=WINDOW, fill=FILL)
    values = curve.values(target, activation="softmax" if softmax else None).double()
    found = values[:, :1] - values[:, 1:]
    assert found.shape == expected.shape == (3, 16)
    effect = float(expected.abs().max())
    assert effect > 1e-3
    assert float((found - expected).abs().max()) <= 1e-5 * max(effect, float(values.abs().max()))

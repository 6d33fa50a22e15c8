"""Diagnosis of filters whose faults were put there."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from click.testing import CliRunner
from PIL import Image
from torch import Tensor, nn

from zfkernels.analysis.diagnosis import diagnose, frequency_bands
from zfkernels.cli.app import app
from zfkernels.cli.diagnose import verdict


def wave(frequency: float, side: int = 15) -> Tensor:
    """A grating [1, 3, side, side] of so many cycles per pixel under a bell."""
    place = torch.arange(side) - side // 2
    bell = torch.exp(-(place**2) / (2 * (side / 5) ** 2))
    return (torch.cos(2 * math.pi * frequency * place) * bell * bell[:, None])[None, None].expand(1, 3, -1, -1)


def network(stride: int = 1) -> nn.Sequential:
    """Three gratings, a dead filter, a strong one and a copy of the first; then a second layer."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 6, 15, stride, 7), nn.ReLU(), nn.Conv2d(6, 4, 3, 2), nn.ReLU()).eval()
    with torch.no_grad():
        filters = [wave(0.03), wave(0.25), wave(0.45), wave(0.25), 20 * wave(0.2), 1.5 * wave(0.03)]
        model[0].weight.copy_(torch.cat(filters))
        model[0].bias.zero_()
        model[0].bias[3] = -1e3
    return model


def tiny() -> nn.Module:
    """What ``--model test_diagnosis:tiny`` names."""
    return network(4)


IMAGES = torch.randn(4, 3, 48, 48, generator=torch.Generator().manual_seed(1))


def test_the_faults_are_found() -> None:
    result = diagnose(network(), IMAGES, batch_size=3)
    first = result.layers[0]
    assert first.observed == "1"
    assert first.dead.tolist() == [False, False, False, True, False, False]
    assert first.dominating.tolist() == [False, False, False, False, True, False]
    assert [0, 5] in first.duplicates.tolist()
    assert all({a, b} <= {0, 5} or {a, b} <= {1, 3, 4} for a, b in first.duplicates.tolist())
    torch.testing.assert_close(first.rms, network()[0].weight.double().flatten(1).square().mean(1).sqrt())
    maps = network()[:2](IMAGES).flatten(2)
    torch.testing.assert_close(first.active, (maps.amax(2) > 0).double().mean(0))
    torch.testing.assert_close(first.strength, maps.double().sum(2).mean(0), rtol=1e-5, atol=1e-5)
    assert first.concentration == pytest.approx(float(first.strength.max() / first.strength.sum()))
    assert result.prevailing.tolist()[:4] == [0, 1, 2, 1]
    words = " ".join(verdict(result))
    assert "1 of 6 in 0" in words
    assert "1 of 6 dominate" in words
    assert "white noise" not in words
    fresh = nn.Sequential(nn.Conv2d(3, 40, 9), nn.ReLU()).eval()
    assert "close to white noise" in " ".join(verdict(diagnose(fresh, IMAGES)))


def test_bands_share_the_power() -> None:
    bands = frequency_bands(torch.cat([wave(0.02, 21), wave(0.25, 21), wave(0.45, 21), torch.zeros(1, 3, 21, 21)]))
    assert bool((bands[[0, 1, 2], [0, 1, 2]] > 0.9).all())
    torch.testing.assert_close(bands[:3].sum(1), torch.ones(3, dtype=torch.float64))
    assert not bands[3].any()
    point = torch.zeros(1, 3, 5, 5)
    point[0, :, 2, 2] = 1  # a flat spectrum, as white noise
    torch.testing.assert_close(frequency_bands(point)[0], diagnose(network(), IMAGES).flat)


def test_aliasing_follows_stride_and_frequency() -> None:
    fine, coarse = diagnose(network(1), IMAGES), diagnose(network(4), IMAGES)
    # Stride 1 keeps everything up to half a cycle per pixel.
    assert float(fine.aliased.max()) < 1e-9
    # Stride 4 keeps an eighth of a cycle: the grating of 0.03 fits, those of 0.25 and 0.45 do not.
    assert float(coarse.aliased[0]) < 0.1
    assert float(coarse.aliased[1]) > 0.9
    assert float(coarse.aliased[2]) > 0.9


def test_shift_variation_against_a_loop() -> None:
    model = network(2).double()
    images = IMAGES.double()
    result = diagnose(model, images)
    assert result.second == "2"
    means = torch.stack([model(images[:, :, s : s + 44, s : s + 44]).mean((2, 3)) for s in range(4)])  # steps of 2 * 2
    ratio = means.std(0, correction=0) / means.mean(0)
    expected = torch.where(means.mean(0) > 0, ratio, float("nan")).nanmean(0)
    torch.testing.assert_close(result.shift_variation, expected.detach(), equal_nan=True)


def test_a_batch_normalisation_lies_between_a_filter_and_its_rectifier() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()).eval()
    with torch.no_grad():
        model[1].bias[2] = -1e3
    result = diagnose(model, IMAGES)
    assert (result.layers[0].layer, result.layers[0].observed) == ("0", "2")
    assert result.layers[0].dead.tolist() == [False, False, True, False]
    assert result.second is None
    assert len(result.shift_variation) == 0
    assert verdict(result)


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="expected model one that begins with a convolution"):
        diagnose(nn.Sequential(nn.Flatten(), nn.Linear(3 * 48 * 48, 2)).eval(), IMAGES)
    with pytest.raises(ValueError, match="expected at least one image, got none"):
        diagnose(network(), IMAGES[:0])
    with pytest.raises(ValueError, match="expected images of 3 channels, got 1"):
        diagnose(network(), IMAGES[:, :1])


def test_command_compares_two_networks(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for n in range(2):
        Image.fromarray(generator.integers(0, 256, (240, 250, 3), dtype=np.uint8)).save(folder / f"{n}.png")
    base = ["diagnose", "--model", f"{__name__}:tiny", "--against", f"{__name__}:tiny", "--data", str(folder), "--json"]
    out = tmp_path / "out"
    result = CliRunner().invoke(app, [*base, "--names", "one,two", "--out", str(out)])
    assert result.exit_code == 0, result.output
    record = json.loads((out / "diagnosis.json").read_text())
    assert record["networks"]["one"] == record["networks"]["two"]
    assert record["networks"]["one"]["layers"][0]["dead"] == [3]
    with open(out / "diagnosis.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * (6 + 4)
    assert (rows[3]["dead"], rows[0]["dead"]) == ("1", "0")
    refused = CliRunner().invoke(app, [*base, "--names", "one", "--out", str(out)])
    assert refused.exit_code == 2


def test_conv_of_white_noise_has_the_filters_spectrum() -> None:
    """A filter of one cell lets white noise through: three quarters of the plane lie beyond what stride 2 keeps."""
    model = nn.Sequential(nn.Conv2d(3, 1, 1, 2, bias=False), nn.ReLU()).eval()
    noise = torch.randn(40, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert float(diagnose(model, noise).aliased[0]) == pytest.approx(0.75, abs=0.03)
    assert F.conv2d(noise, model[0].weight).shape[-1] == 64

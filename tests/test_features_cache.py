"""Cached features that were damaged: the same features, or a sentence."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from support.pictures import make_folder
from torch import nn

from zfkernels.data import open_source
from zfkernels.features import Features, extract_features
from zfkernels.models import Preprocess


def cached(folder: Path, cache: Path) -> Features:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 2)).eval()
    return extract_features(model, open_source(folder), Preprocess(size=8, resize=8), ["1"], cache=cache, workers=0)


def test_a_damaged_state_gives_the_same_features_or_a_sentence(tmp_path: Path) -> None:
    folder, cache = make_folder(tmp_path / "photos"), tmp_path / "cache"
    first = cached(folder, cache)
    (state,) = cache.glob("*.json")
    whole = state.read_bytes()
    generator, refused = random.Random(0), 0
    damaged = [whole[:n] + bytes([whole[n] ^ 1 << generator.randrange(8)]) + whole[n + 1 :] for n in range(len(whole))]
    damaged += [b"", b"null", b"[]", b"{}", b"[" * 10_000, whole[:-1]]
    for data in generator.sample(damaged[: len(whole)], 100) + damaged[len(whole) :]:
        state.write_bytes(data)
        try:
            again = cached(folder, cache)
        except ValueError as error:
            assert str(error).startswith("extract_features: expected cache with ")  # noqa: PT017
            refused += 1
            continue
        assert torch.equal(again.values["1"], first.values["1"])
        assert (again.ids.tolist(), again.labels.tolist()) == (first.ids.tolist(), first.labels.tolist())
    assert refused > 90


@pytest.mark.parametrize("array", [np.zeros((3, 3), np.float32), np.zeros((5, 8)), None, np.array([{}])])
def test_another_array_in_its_place_is_refused(tmp_path: Path, array: np.ndarray | None) -> None:
    folder, cache = make_folder(tmp_path / "photos"), tmp_path / "cache"
    assert cached(folder, cache).values["1"].shape == (4, 8)
    (path,) = cache.glob("*.npy")
    if array is None:
        path.write_bytes(b"no array")
    else:
        np.save(path, array, allow_pickle=True)
    with pytest.raises(ValueError, match=r"extract_features: expected cache with "):
        cached(folder, cache)

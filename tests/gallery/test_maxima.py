"""The matrix of all maxima: against the network itself, through interruptions, and what is read out of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small import OPTIONS, small_network
from states import STAGES, cut_off
from torch import Tensor

from zfkernels.analysis.topk import TopK
from zfkernels.gallery import Gallery, build_gallery
from zfkernels.gallery.matrix import FILE, Matrix, open_matrix
from zfkernels.gallery.maxima import Maxima, correlations


class Noise:
    """Noise in two classes, under names."""

    def __init__(self, count: int = 30) -> None:
        self.images = torch.rand(count, 3, 20, 20, generator=torch.Generator().manual_seed(3))
        self.classes = ["cat", "dog"]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.images[index], index % 2


def expected(images: Tensor) -> np.ndarray:
    model = small_network()
    with torch.no_grad():
        return torch.cat([model[: int(layer) + 1](images).amax((2, 3)) for layer in ("0", "1", "4")], 1).numpy()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Gallery:
    return build_gallery(small_network(), Noise(), out=tmp_path_factory.mktemp("m") / "out", maxima=True, **OPTIONS)


def test_every_maximum_of_every_image(built: Gallery) -> None:
    found = built.maxima
    assert found.values.dtype == np.float16
    assert isinstance(found.values, np.memmap)
    np.testing.assert_allclose(found.values, expected(Noise().images), rtol=1e-3, atol=1e-6)
    assert found.maps[:2] == [("0", 0), ("0", 1)]
    assert found.maps[found.column("4", 5)] == ("4", 5)
    assert list(found.labels) == ["cat", "dog"] * 15
    assert found.image_ids.tolist() == list(range(30))


@pytest.mark.parametrize("stage", ["first pass", "second pass", "writing", "publishing"])
def test_an_interrupted_run_has_the_same_matrix(stage: str, photos: Path, tmp_path: Path) -> None:
    options = {**OPTIONS, "batch_size": 4, "maxima": True}
    whole = build_gallery(small_network(), photos, out=tmp_path / "whole", **options).maxima
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(OPTIONS, "maxima", True)
        cut_off(*STAGES[stage], photos, tmp_path / "cut")
    found = build_gallery(small_network(), photos, out=tmp_path / "cut", **options).maxima
    np.testing.assert_array_equal(np.asarray(found.values), np.asarray(whole.values))
    assert (list(found.images), list(found.labels)) == (list(whole.images), list(whole.labels))
    broken = [n for n, key in enumerate(found.images) if key.endswith("bad.jpg")]
    assert sorted(set(range(len(found.images))) - set(found.used.tolist())) == broken


def test_a_matrix_that_was_lost_is_made_again(photos: Path, tmp_path: Path) -> None:
    options = {**OPTIONS, "batch_size": 4, "maxima": True}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(OPTIONS, "maxima", True)
        cut_off(TopK, "update", 8, photos, tmp_path / "cut")
    (tmp_path / "cut" / ".zfkernels" / "state" / FILE).unlink()
    found = build_gallery(small_network(), photos, out=tmp_path / "cut", **options).maxima
    assert not np.isnan(found.values[found.used]).any()
    assert (np.asarray(found.values)[found.used].max(1) > 0).all()


def test_correlations_against_numpy() -> None:
    generator = np.random.default_rng(0)
    left = generator.normal(3, 1, (2500, 7)).astype(np.float16)
    right = generator.normal(0, 1, (3000, 5)).astype(np.float16)
    right[100:2600, :2] += left[:, :2]
    right[:, 4] = 1
    rows = np.arange(2500)
    found = correlations(left, right, rows, rows + 100)
    wanted = np.corrcoef(left.T.astype(np.float64), right[100:2600, :4].T.astype(np.float64))[:7, 7:]
    np.testing.assert_allclose(found[:, :4], wanted, atol=1e-12)
    assert found[:, 4].isnan().all()


def test_nearest_maps(built: Gallery) -> None:
    values = expected(Noise().images)
    with np.errstate(invalid="ignore", divide="ignore"):
        wanted = np.corrcoef(values.T)
    column = built.maxima.column("4", 1)
    np.fill_diagonal(wanted, np.nan)
    best = np.sort(-np.nan_to_num(wanted[column], nan=-2))[:3]
    found = built.maxima.nearest("4", 1, 3)
    assert [row["correlation"] for row in found] == pytest.approx((-best).tolist(), abs=2e-3)
    there = [wanted[column][built.maxima.column(row["layer"], row["channel"])] for row in found]
    assert there == pytest.approx((-best).tolist(), abs=2e-3)
    text = (built.path / "maps" / "002" / "layer.js").read_text()
    first = built.maxima.nearest("4", 1, 1)[0]
    assert f"[{built.layers.index(first['layer'])},{first['channel']},{round(first['correlation'], 3)}]" in text


def test_selectivity_for_other_labels(built: Gallery) -> None:
    as_built = {(row["layer"], row["channel"]): row for row in built.statistics.to_pylist()}
    for row in built.maxima.selectivity():
        known = as_built[row["layer"], row["channel"]]
        assert row["selectivity"] == pytest.approx(known["selectivity"], abs=2e-3)
    strongest = built.maxima.values[:, built.maxima.column("4", 1)].astype(float)
    labels = [
        "high" if value > np.median(strongest) else None if n == 0 else "low" for n, value in enumerate(strongest)
    ]
    found = built.maxima.selectivity(labels)[built.maxima.column("4", 1)]
    assert found["label"] == "high"
    assert found["selectivity"] > 0
    with pytest.raises(ValueError, match="two different ones, got 30 with 1 different"):
        built.maxima.selectivity(["one"] * 30)


def test_words_for_maps(built: Gallery) -> None:
    values = built.maxima.values.astype(np.float64)
    column = built.maxima.column("4", 1)
    similarity = np.stack([np.arange(30.0), values[:, column] * 2 + 1, -values[:, column]], 1)
    named = built.maxima.concepts(similarity, ["order", "this", "not this"], 2)
    assert [row["concept"] for row in named[column]] == ["this", "order"]
    assert named[column][0]["correlation"] == pytest.approx(1)
    assert named[built.maxima.column("1", 2)] == []  # a dead map
    with pytest.raises(ValueError, match=r"expected similarity finite numbers \[30, 3\], got \[29, 3\]"):
        built.maxima.concepts(similarity[1:], ["order", "this", "not this"])


def test_values_out_of_range(tmp_path: Path) -> None:
    matrix = Matrix(tmp_path / FILE, [5, 2, 9], 2)
    matrix.reserve()
    matrix.put(torch.tensor([9, 2]), torch.tensor([[1e9, -1e9], [1.0, -torch.inf]]), [0, -1])
    matrix.leave_out([5])
    found = np.asarray(open_matrix(tmp_path / FILE))
    assert found[0].tolist() == [1, -65504]
    assert np.isnan(found[1]).all()
    assert found[2].tolist() == [65504, -65504]


class Endless:
    def __iter__(self) -> Any:
        return iter([(torch.rand(3, 20, 20), 0)] * 3)


def test_refused(built: Gallery, photos: Path, tmp_path: Path) -> None:
    options = {**OPTIONS, "maxima": True}
    with pytest.raises(ValueError, match=r"expected maxima of a data set with a length, .* got engine 'ray'"):
        build_gallery(small_network(), photos, out=tmp_path / "a", engine="ray", **options)
    with pytest.raises(ValueError, match="which can only be walked through"):
        build_gallery(small_network(), Endless(), out=tmp_path / "b", **options)
    without = build_gallery(small_network(), photos, out=tmp_path / "c", **OPTIONS)
    with pytest.raises(FileNotFoundError, match="expected a gallery built with maxima=True"):
        _ = without.maxima
    np.save(built.path / "maps" / FILE, np.zeros((3, 3), np.float16))
    with pytest.raises(ValueError, match=r"a matrix \[30, 16\], got \[3, 3\]"):
        Maxima.open(built.path / "maps", [("0", n) for n in range(16)])

"""Sweeps of a data set on disk: the numbers of single sweeps, what is left out, resuming, reading, refusals."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

import zfkernels as zf
from zfkernels.data import open_source
from zfkernels.store import SweepStore, journal, store_sweeps
from zfkernels.store.finish import ENTRIES
from zfkernels.store.write import described

SQUARE: dict[str, Any] = {"window": 8, "stride": 8, "fill": 0.3}
SIDE = 24


class Images(Dataset[Any]):
    """Six tensors with labels; the fourth holds NaN."""

    name = "six tensors"

    def __init__(self, broken: bool = True) -> None:
        generator = torch.Generator().manual_seed(3)
        self.images = torch.randn(6, 3, SIDE, SIDE, generator=generator)
        if broken:
            self.images[3, 0, 0, 0] = torch.nan

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, n: int) -> tuple[Tensor, str]:
        return self.images[n], ("cat", "dog")[n % 2]


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 5, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(4)
    ).eval()


@pytest.fixture(scope="module")
def model() -> nn.Module:
    found = network()
    found(torch.zeros(1, 3, SIDE, SIDE))
    return found


def formats() -> list[Any]:
    return ["npz", "zarr"]


def stored(format: str, model: nn.Module, data: Any, out: Path, **options: Any) -> SweepStore:
    if format == "zarr":
        pytest.importorskip("zarr")
    return store_sweeps(model, data, out=out, format=format, **{**SQUARE, **options})


@pytest.mark.parametrize("format", formats())
def test_each_image_has_the_numbers_of_its_own_sweep(format: str, model: nn.Module, tmp_path: Path) -> None:
    data = Images()
    store = stored(format, model, data, tmp_path, layer="1")
    assert sorted(os.listdir(tmp_path)) == sorted([".zfkernels", *ENTRIES])
    assert len(store) == 5
    assert store.labels == ["cat", "dog", "cat", "cat", "dog"]
    ((key, reason),) = store.skipped
    assert ("3" in key, "NaN" in reason) == (True, True)
    for place, n in enumerate([0, 1, 2, 4, 5]):
        expected = zf.occlusion_sweep(model, data[n][0][None], layer="1", **SQUARE)
        found = store[place]
        np.testing.assert_array_equal(found["outputs"], expected.outputs[0])
        np.testing.assert_array_equal(found["clean"], expected.clean[0])
        np.testing.assert_array_equal(found["drop"], expected.drop()[0])
        np.testing.assert_array_equal(found["probability"], expected.probability()[0])
        np.testing.assert_array_equal(found["best_class"], expected.best_class()[0])
        np.testing.assert_array_equal(found["activity"], expected.activity[0])
        assert found["channel"] == expected.channel[0]
        assert found["class"] == expected.clean[0].argmax()
    assert np.array_equal(store.array("drop", [4]), store[4]["drop"][None])


@pytest.mark.parametrize("format", formats())
def test_it_reads_back_as_xarray(format: str, model: nn.Module, tmp_path: Path) -> None:
    pytest.importorskip("xarray")
    store = stored(format, model, Images(), tmp_path, layer="0", units=[2, 0], statistic="max")
    read = store.to_xarray()
    assert read["outputs"].dims == ("image", "row", "column", "class")
    assert read["activity"].dims == ("image", "row", "column", "unit")
    assert read["row"].values.tolist() == [0, 8, 16]
    assert read["image"].values.tolist() == store.keys
    assert read["label"].values.tolist() == store.labels
    assert read["channel"].values.tolist() == [2, 0]
    for n in range(len(store)):
        np.testing.assert_array_equal(read["drop"].values[n], store[n]["drop"])
    again = SweepStore.open(tmp_path)
    assert again.headline() == store.headline()
    assert "1 left out" in repr(again)


def test_class_means(model: nn.Module, tmp_path: Path) -> None:
    store = stored("npz", model, Images(), tmp_path, keep="maps")
    assert "outputs" not in store[0]
    means = store.class_means
    assert (means.labels, means.counts.tolist()) == (["cat", "dog"], [3, 2])
    drops = store.array("drop").astype(np.float64)
    np.testing.assert_allclose(means.drop[0], drops[[0, 2, 3]].mean(0), rtol=1e-12)
    np.testing.assert_allclose(means.drop[1], drops[[1, 4]].mean(0), rtol=1e-12)
    np.testing.assert_allclose(means.mean, drops.mean(0), rtol=1e-12)
    np.testing.assert_allclose(means.largest, drops.max((1, 2)), rtol=1e-12)
    texts = [axes.get_title(loc="left") for axes in store.plot().axes]
    assert texts[:3] == ["all\n5 images", "cat\n3 images", "dog\n2 images"]


def test_several_fills_regions_reducers_and_maps_alone(model: nn.Module, tmp_path: Path) -> None:
    data = Images(broken=False)
    image = data[2][0][None]
    fills = stored("npz", model, data, tmp_path / "fills", fill=[0.3, "mean"])
    expected = zf.occlusion_sweep(model, image, window=8, stride=8, fill=[0.3, "mean"])
    np.testing.assert_array_equal(fills[2]["drop"], expected.drops()[:, 0])
    assert fills.layout.variables["drop"].dims == ("fill", "row", "column")
    regions = torch.arange(SIDE * SIDE).view(SIDE, SIDE) // 100
    by_region = stored("npz", model, data, tmp_path / "regions", window=None, stride=None, regions=regions)
    one = zf.occlusion_sweep(model, image, regions=regions, fill=0.3)
    np.testing.assert_array_equal(by_region[2]["drop"], one.drop()[0])
    assert by_region.layout.variables["drop"].dims == ("place",)
    maps = stored("npz", model, data, tmp_path / "maps", layer="3", units="all", outputs=False)
    all_maps = zf.occlusion_sweep(model, image, layer="3", units="all", outputs=False, **SQUARE)
    assert set(maps[2]) == {"activity", "clean_activity", "drop"}
    np.testing.assert_array_equal(maps[2]["activity"], all_maps.activity[0])
    segments = nn.Conv2d(3, 4, 3, padding=1).eval()
    area = zf.occlusion.class_area()
    reduced = stored("npz", segments, data, tmp_path / "areas", reduce=area)
    both = zf.occlusion_sweep(segments, image, reduce=area, **SQUARE)
    np.testing.assert_array_equal(reduced[2]["drop"], (both.clean[:, None, None] - both.outputs)[0])


@pytest.mark.parametrize("format", formats())
def test_what_is_on_disk_is_not_swept_again(
    format: str, model: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "SECONDS", 0)

    class Interrupted(Images):
        left = 99
        loaded: list[int]

        def __getitem__(self, n: int) -> tuple[Tensor, str]:
            if n == self.left:
                raise KeyboardInterrupt
            self.loaded.append(n)
            return super().__getitem__(n)

    Interrupted.loaded = []
    whole = stored(format, model, Interrupted(), tmp_path / "whole")
    monkeypatch.setattr(Interrupted, "left", 4)
    with pytest.raises(KeyboardInterrupt):
        stored(format, model, Interrupted(), tmp_path / "out")
    monkeypatch.setattr(Interrupted, "left", 99)
    Interrupted.loaded = []
    store = stored(format, model, Interrupted(), tmp_path / "out")
    assert not {1, 2, 3} & set(Interrupted.loaded)
    for path in sorted(whole.path.rglob("*")):
        relative = path.relative_to(whole.path)
        if path.is_file() and relative.parts[0] != ".zfkernels":
            assert (store.path / relative).read_bytes() == path.read_bytes(), relative
    Interrupted.loaded = []
    stored(format, model, Interrupted(), tmp_path / "out")  # complete
    assert not {1, 2, 3, 4, 5} & set(Interrupted.loaded)


def test_another_run_in_the_same_folder_is_refused(model: nn.Module, tmp_path: Path) -> None:
    stored("npz", model, Images(), tmp_path)
    threads = torch.get_num_threads()
    for options, message in (({"fill": 0.4}, "options.fill"), ({"memory": 2**24}, "options.memory")):
        with pytest.raises(ValueError, match=rf"store_sweeps: expected out without another run, .*{message}"):
            stored("npz", model, Images(), tmp_path, **options)
    torch.set_num_threads(threads + 1)
    try:
        with pytest.raises(ValueError, match=r"options\.threads"):
            stored("npz", model, Images(), tmp_path)
    finally:
        torch.set_num_threads(threads)
    again = stored("npz", model, Images(), tmp_path, fill=0.4, resume=False)
    assert again.info["run"]["options"]["fill"] == 0.4


def test_a_torn_line_of_the_journal_counts_as_not_written(tmp_path: Path) -> None:
    kept = journal.Journal(tmp_path / "journal")
    for row in range(3):
        kept.add(row, {"key": f"image {row}"})
    kept.save()
    data = (tmp_path / "journal").read_bytes()
    (tmp_path / "journal").write_bytes(data[:-4])
    assert sorted(journal.Journal(tmp_path / "journal").entries) == [0, 1]
    (tmp_path / "journal").write_bytes(data.replace(b"image 0", b"image 7"))
    with pytest.raises(ValueError, match="expected a whole journal"):
        journal.Journal(tmp_path / "journal")


def test_an_image_whose_file_is_not_as_it_was_written_is_done_again(tmp_path: Path) -> None:
    kept = journal.Journal(tmp_path / "journal")
    for row in range(3):
        (tmp_path / f"{row}.npz").write_bytes(b"content")
        kept.add(row, {"key": f"image {row}"}, [tmp_path / f"{row}.npz"])
    kept.save()
    (tmp_path / "0.npz").write_bytes(b"cont")
    (tmp_path / "1.npz").unlink()
    again = journal.Journal(tmp_path / "journal")
    assert sorted(again.entries) == [2]
    (tmp_path / "1.npz").write_bytes(b"longer content")
    again.add(1, {"key": "image 1"}, [tmp_path / "1.npz"])
    again.save()
    assert sorted(journal.Journal(tmp_path / "journal").entries) == [1, 2]


class Two(nn.Module):
    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"a": x.mean((2, 3)), "b": x}


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"keep": "all"}, ValueError, "expected keep one of"),
        ({"format": "hdf5"}, ValueError, "expected format one of"),
        ({"regions": torch.zeros(6, SIDE, SIDE, dtype=torch.int64), "window": None}, ValueError, "same for all images"),
        ({"window": 99}, ValueError, "window no larger than the images"),
        ({"layer": "nowhere"}, ValueError, "layer"),
        ({"statistic": "median"}, ValueError, "statistic one of"),
        ({"target": 9}, ValueError, "expected target from 0 to 3, got 9"),
        ({"reduce": lambda outputs, image, clean: torch.zeros(1)}, ValueError, "expected reduce to return"),
    ],
)
def test_what_cannot_be_done_is_said_at_the_first_image(
    model: nn.Module, tmp_path: Path, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        store_sweeps(model, Images(), out=tmp_path / "out", **{"window": 8, "format": "npz", **options})
    assert str(caught.value).startswith("store_sweeps: ")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out" / ENTRIES[-1]).exists()


def test_models_and_data_that_cannot_be_stored(model: nn.Module, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected reduce= for a model that does not return"):
        stored("npz", Two().eval(), Images(), tmp_path / "a")
    with pytest.raises(TypeError, match=r"expected model an nn\.Module"):
        store_sweeps(lambda x: x, Images(), out=tmp_path / "b", window=8)  # type: ignore[arg-type]
    nothing = Images()
    nothing.images[:] = torch.nan
    with pytest.raises(ValueError, match=r"expected data with images that can be swept, got none: .*NaN"):
        stored("npz", model, nothing, tmp_path / "c")
    with pytest.raises(FileNotFoundError, match="the folder of a store"):
        SweepStore.open(tmp_path)
    stored("npz", model, Images(), tmp_path / "d")
    record = json.loads((tmp_path / "d" / "store.json").read_text())
    (tmp_path / "d" / "store.json").write_text(json.dumps({**record, "version": "other"}))
    with pytest.raises(ValueError, match=r"SweepStore.open: expected .* a store of sweeps"):
        SweepStore.open(tmp_path / "d")


def test_a_record_tells_fills_and_reducers_apart() -> None:
    noise, mean = zf.occlusion.noise, zf.occlusion.region_mean
    assert described(noise(0)) != described(noise(1))
    assert described(mean(torch.ones(2, 2))) != described(mean(torch.zeros(2, 2)))
    assert described(torch.ones(2)) == described(torch.ones(2)) != described(torch.ones(3))
    json.dumps(described([noise(0), torch.ones(2), {"a": (1, None)}]))


def test_a_source_without_a_length(model: nn.Module, tmp_path: Path) -> None:
    data = Images()

    class Stream(torch.utils.data.IterableDataset[Any]):
        def __iter__(self) -> Any:
            return (data[n] for n in range(6))

    store = stored("npz", model, Stream(), tmp_path)
    assert open_source(Stream()).count is None
    assert len(store) == 5
    np.testing.assert_array_equal(store[3]["drop"], zf.occlusion_sweep(model, data[4][0][None], **SQUARE).drop()[0])

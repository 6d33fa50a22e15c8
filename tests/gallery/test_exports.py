"""A gallery handed to other tools, whose packages stand-ins replace here."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from small import SIZE

from zfkernels.gallery import Gallery, to_fiftyone, to_mlflow, to_wandb
from zfkernels.gallery.workplace import ENTRIES

FIELDS = {"0": "layer_0", "1": "layer_1", "4": "layer_4"}


class Recorder:
    """Takes calls of any name and keeps them."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments, **options: self.calls.append((name, arguments, options))

    def of(self, name: str) -> list[tuple[Any, ...]]:
        return [arguments for called, arguments, _ in self.calls if called == name]


def test_weights_and_biases(gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    artifact, run = Recorder(), Recorder()
    made: list[Any] = []
    stand_in = SimpleNamespace(
        run=None, Image=lambda sheet: sheet, Artifact=lambda *a, **o: made.append((a, o)) or artifact
    )
    monkeypatch.setitem(sys.modules, "wandb", stand_in)
    with pytest.raises(ValueError, match="expected run a run of wandb's, got None, and none was started"):
        to_wandb(gallery)
    assert to_wandb(gallery, run, maps=2) is artifact
    assert made[0][0] == ("gallery",)
    assert made[0][1]["metadata"]["layers"] == gallery.layers
    assert [name for name, _, _ in artifact.calls] == ["add_dir", "add_dir", *["add_file"] * 4]
    assert [options["name"] for _, _, options in artifact.calls] == list(ENTRIES)
    assert all(Path(arguments[0]).exists() for _, arguments, _ in artifact.calls)
    assert [list(logged) for (logged,) in run.of("log")] == [[f"gallery/{layer}"] for layer in gallery.layers]
    assert run.of("log_artifact") == [(artifact,)]
    stand_in.run = run
    to_wandb(gallery)
    assert len(run.of("log_artifact")) == 2


def test_mlflow(gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in = Recorder()
    monkeypatch.setitem(sys.modules, "mlflow", stand_in)
    to_mlflow(gallery, name="run")
    folders = [(str(gallery.path / name), f"run/{name}") for name in ("maps", "images")]
    assert stand_in.of("log_artifacts") == folders
    assert [Path(path).name for path, _ in stand_in.of("log_artifact")] == list(ENTRIES[2:])
    sheets = [f"run/sheets/{FIELDS[layer]}.png" for layer in gallery.layers]
    assert [path for _, path in stand_in.of("log_image")] == sheets


class Sample(dict[str, Any]):
    def __init__(self, **fields: Any) -> None:
        super().__init__(fields)


class Dataset:
    def __init__(self, name: str) -> None:
        self.name = name

    def add_samples(self, samples: list[Sample]) -> None:
        self.samples = samples


def test_fiftyone(gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in = SimpleNamespace(
        Sample=Sample, Dataset=Dataset, Detection=SimpleNamespace, Detections=SimpleNamespace, Heatmap=SimpleNamespace
    )
    monkeypatch.setitem(sys.modules, "fiftyone", stand_in)
    dataset = to_fiftyone(gallery, "mine")
    assert dataset.name == "mine"
    winners = {
        (layer, row["image"], row["channel"]): row
        for layer in gallery.layers
        for channel in gallery.maps(layer)
        for row in gallery.winners(layer, channel)
    }
    found = {
        (layer, sample["key"], int(box.label.removeprefix("map "))): (sample, box)
        for sample in dataset.samples
        for layer in gallery.layers
        if FIELDS[layer] in sample
        for box in sample[FIELDS[layer]].detections
    }
    assert found.keys() == winners.keys()
    for place, (sample, box) in found.items():
        row = winners[place]
        left, top, width, height = (SIZE * part for part in box.bounding_box)
        assert [top, left, top + height, left + width] == pytest.approx(
            [row[n] for n in ("top", "left", "bottom", "right")]
        )
        assert (box.rank, box.activation, sample["label"]) == (row["rank"], row["value"], row["label"])
        assert Path(sample["filepath"]).is_file()
        heat = sample[f"{FIELDS[place[0]]}_heat"].map
        assert heat.ndim == 2
        if max(other.activation for other in sample[FIELDS[place[0]]].detections) > 0:
            assert heat.max() > 200


@pytest.mark.parametrize(
    ("module", "export"),
    [("wandb", to_wandb), ("mlflow", to_mlflow), ("fiftyone", lambda gallery: to_fiftyone(gallery, "x"))],
)
def test_missing_packages(gallery: Gallery, monkeypatch: pytest.MonkeyPatch, module: str, export: Any) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf"{module} is not installed: pip install 'zfkernels\[exports\]'"):
        export(gallery)

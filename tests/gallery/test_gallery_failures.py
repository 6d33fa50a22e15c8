"""What a gallery refuses, and what stays when a run fails."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from small import OPTIONS, SIZE, small_network
from torch import nn

from zfkernels.gallery import Gallery, build_gallery, run


def entries(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


COMPLETE = {".zfkernels", "index.html", "topk.parquet", "maps.parquet", "gallery.json", "maps", "images"}


@pytest.mark.parametrize("stage", ["sweep", "draw", "write_sprites", "write_table", "write_page"])
def test_the_results_of_another_run_stay_until_a_fresh_one_is_complete(
    gallery: Gallery, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise RuntimeError("the lights went out")

    out = tmp_path / "out"
    shutil.copytree(gallery.path, out)
    (out / "mine.txt").write_text("the user's")
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    fresh = {**OPTIONS, "layers": "4", "resume": False}
    with monkeypatch.context() as patch:
        patch.setattr(run, stage, fail)
        with pytest.raises(RuntimeError, match="lights"):
            build_gallery(small_network(), photos, out=out, **fresh)
    assert {path: path.read_bytes() for path in before} == before
    assert entries(out) == COMPLETE | {"mine.txt"}
    again = build_gallery(small_network(), photos, out=out, **{**fresh, "resume": True})
    assert entries(out) == COMPLETE | {"mine.txt"}
    assert again.layers == ["4"]
    assert {path.name for path in (out / "maps").iterdir()} == {"000"}


def test_nothing_stays_where_no_image_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "x.png").write_text("no picture")
    with pytest.raises(ValueError, match=r"images that can be read, got none: x\.png: not an image file"):
        build_gallery(small_network(), tmp_path / "photos", out=tmp_path / "out", **OPTIONS)
    assert entries(tmp_path) == {"photos"}


def with_nan() -> nn.Module:
    model = small_network()
    with torch.no_grad():
        model[3].weight[0, 0, 0, 0] = torch.nan
    return model


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"layers": "conv7"}, ValueError, "got 'conv7'.*near"),
        ({"layers": ()}, ValueError, "expected layers at least one name"),
        ({"layers": ("1", "1")}, ValueError, "expected layers different names"),
        ({"top_k": 0}, ValueError, "expected top_k ≥ 1, got 0"),
        ({"batch_size": 0}, ValueError, "expected batch_size ≥ 1, got 0"),
        ({"engine": "slurm"}, ValueError, r"expected engine one of \('local', 'ray'\), got 'slurm'"),
        ({"dataset": "/nowhere"}, FileNotFoundError, "got /nowhere"),
        ({"dataset": [torch.rand(1, SIZE, SIZE)]}, ValueError, r"images of 3 channels, as the model takes them, got 1"),
        (
            {"model": nn.Sequential(nn.Conv2d(1, 2, 3)).eval(), "layers": "0"},
            ValueError,
            "images of 1 channels, as the model takes them, got 3",
        ),
        ({"model": with_nan()}, ValueError, "free of NaN, got NaN in 3.weight"),
        ({"model": "vgg16"}, TypeError, "expected model an nn.Module, got str"),
        (
            {"model": nn.Sequential(nn.Conv2d(3, 2, 25)).eval(), "layers": "0"},
            ValueError,
            r"expected images that fit the model, got 20x20 pixels \(.*Kernel size",
        ),
    ],
)
def test_bad_input(photos: Path, tmp_path: Path, options: dict, error: type[Exception], message: str) -> None:
    arguments = {"model": small_network(), "dataset": photos, **OPTIONS, **options}
    with pytest.raises(error, match=message) as caught:
        build_gallery(arguments.pop("model"), arguments.pop("dataset"), out=tmp_path / "out", **arguments)
    assert "\n" not in str(caught.value)
    assert entries(tmp_path) == set()


def test_out_that_cannot_be_written(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OSError, match=r"build_gallery: expected out a folder that can be written, got .*file"):
        build_gallery(small_network(), photos, out=tmp_path / "file" / "out", **OPTIONS)
    assert (tmp_path / "file").read_text() == "x"


def test_no_gallery_to_open(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="expected path the folder of a gallery"):
        Gallery.open(tmp_path)


def test_a_layer_that_the_gallery_does_not_have(gallery: Gallery) -> None:
    with pytest.raises(ValueError, match=r"expected layer one of \['0', '1', '4'\], got '9'"):
        gallery.maps("9")

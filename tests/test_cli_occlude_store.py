"""``zfkernels occlude --data``: that each option reaches the sweep, and what is said of a wrong one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image
from torch import nn

import zfkernels as zf
from zfkernels.cli.app import app
from zfkernels.models import Preprocess
from zfkernels.store import SweepStore

SIDE = 48


def tiny() -> nn.Module:
    """What ``--model test_cli_occlude_store:tiny`` names."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 5, 2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(8, 5),
    ).eval()  # fmt: skip


def segments() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 6, 5, padding=2), nn.ReLU(), nn.Conv2d(6, 3, 1)).eval()


MODEL = ("--model", f"{__name__}:tiny", "--size", str(SIDE))
SQUARE = ("--window", "16", "--stride", "16")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("photos")
    generator = np.random.default_rng(0)
    for n in range(4):
        path = root / ("cats" if n % 2 else "dogs") / f"{n}.png"
        path.parent.mkdir(exist_ok=True)
        coarse = generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(path)
    (root / "cats" / "bad.png").write_bytes(b"no picture")
    return root


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["occlude", *(str(argument) for argument in arguments)])


def stored(photos: Path, out: Path, *arguments: object, model: tuple[str, ...] = MODEL) -> SweepStore:
    result = run("--data", photos, *model, "--store-format", "npz", "--out", out, "--json", *arguments)
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    assert record["images"] == 4
    assert [entry["image"] for entry in record["skipped"]] == ["cats/bad.png"]
    return SweepStore.open(out)


def image_of(photos: Path) -> torch.Tensor:
    preprocess = Preprocess(SIDE, SIDE)
    with Image.open(photos / "dogs" / "2.png") as picture:
        return preprocess(picture.convert("RGB"))[None]


def same(store: SweepStore, photos: Path, name: str, expected: Any) -> None:
    (place,) = [n for n, key in enumerate(store.keys) if key == "dogs/2.png"]
    np.testing.assert_allclose(store[place][name], expected, rtol=1e-5, atol=1e-6)


def test_a_data_set(photos: Path, tmp_path: Path) -> None:
    result = run("--data", photos, *MODEL, *SQUARE, "--store-format", "npz", "--out", tmp_path)
    assert result.exit_code == 0, result.output
    assert "4 images" in result.stdout
    assert "1 × not an image file, such as cats/bad.png" in result.stdout
    assert f"look at {tmp_path / 'summary.png'}" in result.stdout
    store = SweepStore.open(tmp_path)
    assert store.class_means.labels == ["cats", "dogs"]
    expected = zf.occlusion_sweep(tiny(), image_of(photos), window=16, stride=16)
    same(store, photos, "drop", expected.drop()[0])
    assert "outputs" not in store[0]
    with Image.open(tmp_path / "summary.png") as figure:
        assert figure.width > 800


@pytest.mark.parametrize(
    ("text", "fill"),
    [
        ("mean", "mean"),
        ("blur", "blur"),
        ("noise:3", zf.occlusion.noise(3)),
        ("0.25", (0.25 - torch.tensor(Preprocess().mean)) / torch.tensor(Preprocess().std)),
    ],
)
def test_fills(photos: Path, tmp_path: Path, text: str, fill: Any) -> None:
    store = stored(photos, tmp_path, *SQUARE, "--fill", text, "--target", "3")
    expected = zf.occlusion_sweep(tiny(), image_of(photos), window=16, stride=16, fill=fill)
    same(store, photos, "drop", expected.drop(3)[0])


def test_several_fills_and_a_picture(photos: Path, tmp_path: Path) -> None:
    picture = photos / "cats" / "1.png"
    store = stored(photos, tmp_path, *SQUARE, "--fill", "mean", "--fill", picture, "--shape", "disc")
    with Image.open(picture) as file:
        fill = Preprocess(SIDE, SIDE)(file.convert("RGB"))
    expected = zf.occlusion_sweep(tiny(), image_of(photos), window=16, stride=16, fill=["mean", fill], shape="disc")
    same(store, photos, "drop", expected.drops()[:, 0])


def test_maps_of_a_layer(photos: Path, tmp_path: Path) -> None:
    options = ("--layer", "4", "--units", "5,2", "--statistic", "max", "--maps-only", "--memory", 2**22)
    store = stored(photos, tmp_path, *SQUARE, *options)
    expected = zf.occlusion_sweep(
        tiny(), image_of(photos), window=16, stride=16, layer="4", units=[5, 2], statistic="max", outputs=False
    )
    same(store, photos, "activity", expected.activity[0])
    assert store.to_xarray()["activity"].dims == ("image", "row", "column", "unit")
    assert store.info["run"]["options"]["memory"] == 2**22
    every = stored(photos, tmp_path / "all", *SQUARE, "--layer", "4", "--units", "all", "--keep", "outputs")
    assert every.layout.variables["activity"].shape == (3, 3, 8)
    assert every.layout.variables["outputs"].shape == (3, 3, 5)


def test_windows_regions_and_masks(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "w.csv").write_text("0,0,10,12\n8,8,20,5\n")
    store = stored(photos, tmp_path / "windows", "--windows", tmp_path / "w.csv")
    windows = torch.tensor([[0, 0, 10, 12], [8, 8, 20, 5]])
    same(store, photos, "drop", zf.occlusion_sweep(tiny(), image_of(photos), windows=windows).drop()[0])
    labels = np.arange(SIDE * SIDE).reshape(SIDE, SIDE) // 500
    np.save(tmp_path / "r.npy", labels)
    Image.fromarray(labels.astype(np.uint8)).save(tmp_path / "r.png")
    expected = zf.occlusion_sweep(tiny(), image_of(photos), regions=torch.from_numpy(labels)).drop()[0]
    for name in ("r.npy", "r.png"):
        same(stored(photos, tmp_path / name[-3:], "--regions", tmp_path / name), photos, "drop", expected)
    mask = np.eye(16, dtype=np.uint8) * 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    store = stored(photos, tmp_path / "masked", *SQUARE, "--shape", tmp_path / "mask.png")
    shape = torch.from_numpy(mask > 0)
    same(store, photos, "drop", zf.occlusion_sweep(tiny(), image_of(photos), window=16, shape=shape).drop()[0])


def test_reducers(photos: Path, tmp_path: Path) -> None:
    model = ("--model", f"{__name__}:segments", "--size", str(SIDE))
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[10:30, 5:40] = 1
    Image.fromarray(mask).save(tmp_path / "mask.png")
    reducers = {
        "class-area": zf.occlusion.class_area(),
        "dice": zf.occlusion.dice(),
        "largest-probability": zf.occlusion.largest_probability(),
        f"region-mean:{tmp_path / 'mask.png'}": zf.occlusion.region_mean(torch.from_numpy(mask).float()),
    }
    for number, (text, reduce) in enumerate(reducers.items()):
        store = stored(photos, tmp_path / str(number), *SQUARE, "--reduce", text, model=model)
        expected = zf.occlusion_sweep(segments(), image_of(photos), window=16, stride=16, reduce=reduce)
        same(store, photos, "outputs", expected.outputs[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--fill", "purple"), "expected a grey from 0 (black) to 1 (white), neutral, mean, blur, noise"),
        (("--fill", "noise:x"), "expected a grey from 0"),
        (("--units", "all"), "expected --layer with --units"),
        (("--layer", "4", "--units", "1;2"), "expected all, or numbers of maps"),
        (("--layer", "4", "--units", "99"), "expected units from 0 to 7"),
        (("--maps-only",), "expected --layer with --maps-only"),
        (("--statistic", "median"), "'median' is not one of"),
        (("--reduce", "sum"), "expected one of class-area, dice, largest-probability and region-mean:FILE"),
        (("--reduce", "class-area"), "expected a model that returns maps"),
        (("--shape", "nowhere.png"), "expected a picture of labels or an .npy array, got nowhere.png"),
        (("--windows", "nowhere.csv"), "expected a file of whole numbers, got nowhere.csv"),
        (("--regions", "nowhere.png"), "expected a picture of labels or an .npy array, got nowhere.png"),
        (("--regions", "r.npy", *SQUARE), "expected one of --windows, --regions, and a square"),
        (("--target", "tabby"), "expected the number or name of a class, got 'tabby'"),
        (("--target", "1", "--target", "2"), "expected one for all images, got 2"),
        (("--memory", "1000"), "expected memory at least"),
        (("--store-format", "hdf5"), "'hdf5' is not one of"),
        (("--keep", "all"), "'all' is not one of"),
        (("--others", "embedded"), "expected --others with IMAGE alone"),
    ],
)
def test_bad_input(photos: Path, tmp_path: Path, options: tuple[str, ...], message: str) -> None:
    result = run("--data", photos, *MODEL, "--out", tmp_path / "out", *options)
    assert result.exit_code in (1, 2)
    assert message in " ".join(result.output.split())
    assert "Traceback" not in result.output
    assert not (tmp_path / "out" / "store.json").exists()


def test_a_picture_of_photos_takes_no_option_of_a_store(photos: Path, tmp_path: Path) -> None:
    photo = photos / "dogs" / "0.png"
    for options, message in [
        ((photo, "--units", "all"), "expected --units with --data alone"),
        ((photo, "--fill", "blur"), "(--data takes others), got 'blur'"),
        ((photo, "--data", photos), "expected IMAGE or --data, got both"),
        ((), "expected IMAGE or --data, got none of them"),
    ]:
        result = run(*options, *MODEL, "--out", tmp_path / "out")
        assert result.exit_code == 2, result.output
        assert message in " ".join(result.output.split())


def test_windows_of_another_form(photos: Path, tmp_path: Path) -> None:
    for number, content in enumerate(("1,2\n", "a,b,c,d\n", "0,0,4,4\n1,1\n", "900,0,4,4\n")):
        (tmp_path / f"{number}.csv").write_text(content)
        result = run("--data", photos, *MODEL, "--out", tmp_path / "out", "--windows", tmp_path / f"{number}.csv")
        assert result.exit_code in (1, 2)
        assert "expected" in result.output
        assert "Traceback" not in result.output

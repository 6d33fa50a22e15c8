"""The gallery: its table against a brute force over all activations, its patches and its projections."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
import pytest
import torch
from PIL import Image
from small import DEAD, LAYERS, OPTIONS, SIZE, SMALL, small_network
from torch import Tensor, nn

import zfkernels as zf
from zfkernels.data import Batch, open_source, stream
from zfkernels.gallery import Gallery, build_gallery, default_layers
from zfkernels.gallery.checkpoint import Progress
from zfkernels.gallery.layers import select_layers
from zfkernels.gallery.sweep import Sweeper
from zfkernels.network.network import trace_model


def all_activations(photos: Path) -> tuple[dict[str, Tensor], list[int], Tensor]:
    """Every activation of every layer, the image ids, and the images."""
    batches = list(stream(open_source(photos), SMALL, batch_size=5, workers=0))
    images = torch.cat([batch.images for batch in batches])
    values, model = {}, small_network()
    model[1].inplace = False
    for name, module in model.named_children():
        module.register_forward_hook(
            lambda module, inputs, output, name=name: values.__setitem__(name, output.detach())
        )
    model(images)
    return values, torch.cat([batch.ids for batch in batches]).tolist(), images


def test_table_equals_brute_force(gallery: Gallery, photos: Path) -> None:
    values, ids, _ = all_activations(photos)
    source = open_source(photos)
    expected = []
    for layer in LAYERS:
        for channel in range(values[layer].shape[1]):
            found = []
            for maps, image_id in zip(values[layer][:, channel], ids, strict=True):
                row, col = divmod(maps.flatten().tolist().index(maps.max().item()), maps.shape[1])
                found.append((-maps.max().item(), image_id, row, col))
            for rank, (value, image_id, row, col) in enumerate(sorted(found)[:4]):
                key = source.keys[image_id]
                expected.append((layer, channel, rank, image_id, key, key.split("/")[0], row, col, -value))
    rows = gallery.table.to_pylist()
    names = ("layer", "channel", "rank", "image_id", "image", "label", "row", "col")
    assert [tuple(row[name] for name in names) for row in rows] == [row[:-1] for row in expected]
    # The network runs in other batches than here: the values agree up to the order of summation.
    assert [row["value"] for row in rows] == pytest.approx([row[-1] for row in expected], rel=1e-5, abs=1e-6)


def test_columns_of_the_table(gallery: Gallery) -> None:
    schema = parquet.read_schema(gallery.path / "topk.parquet")
    assert schema.names == (
        [
            "layer",
            "channel",
            "rank",
            "value",
            "image_id",
            "image",
            "label",
            "row",
            "col",
            "top",
            "left",
            "bottom",
            "right",
        ]
    )
    assert str(schema.field("image_id").type) == "int64"


@pytest.mark.parametrize("batch_size", [1, 3, 64])
@pytest.mark.parametrize("workers", [0, 2])
def test_the_table_does_not_depend_on_batches_or_workers(
    gallery: Gallery, photos: Path, tmp_path: Path, batch_size: int, workers: int
) -> None:
    options = {**OPTIONS, "batch_size": batch_size, "workers": workers}
    other = build_gallery(small_network(), photos, out=tmp_path, **options)
    assert (other.path / "topk.parquet").read_bytes() == (gallery.path / "topk.parquet").read_bytes()


def test_receptive_fields_are_exact(gallery: Gallery, photos: Path) -> None:
    """Every pixel outside the field can change without a change of the activation; its border pixels cannot."""
    images = {}
    for batch in stream(open_source(photos), SMALL, workers=0):
        images.update(zip(batch.ids.tolist(), batch.images, strict=True))
    model = small_network().double()
    for row in gallery.table.to_pylist()[::7]:
        image = images[row["image_id"]].double()[None].requires_grad_()
        part = nn.Sequential(*(module for module in model[: int(row["layer"]) + 1] if not isinstance(module, nn.ReLU)))
        part(image)[0, row["channel"], row["row"], row["col"]].backward()
        touched = image.grad[0].abs().sum(0).nonzero()
        low, high = touched.amin(0).tolist(), (touched.amax(0) + 1).tolist()
        assert row["top"] <= low[0] < high[0] <= row["bottom"]
        assert row["left"] <= low[1] < high[1] <= row["right"]


class Fire(nn.Module):
    """Two branches that see different parts of the image, concatenated."""

    def __init__(self) -> None:
        super().__init__()
        self.narrow, self.wide = nn.Conv2d(3, 2, 1), nn.Conv2d(3, 2, (3, 7), padding=(1, 3))

    def forward(self, images: Tensor) -> Tensor:
        return torch.cat([self.narrow(images), self.wide(images)], 1).relu()


def test_maps_of_a_concatenation_have_the_field_of_their_branch(photos: Path, tmp_path: Path) -> None:
    gallery = build_gallery(Fire().eval(), photos, out=tmp_path, **{**OPTIONS, "layers": "relu"})
    for row in gallery.table.to_pylist():
        reach = (0, 0) if row["channel"] < 2 else (1, 3)
        assert (row["top"], row["bottom"]) == (max(0, row["row"] - reach[0]), min(SIZE, row["row"] + reach[0] + 1))
        assert (row["left"], row["right"]) == (max(0, row["col"] - reach[1]), min(SIZE, row["col"] + reach[1] + 1))
    assert gallery.info["layers"][0]["rectified"]


class Both(nn.Module):
    """A convolution that is read before and after it is rectified, and one that only its rectifier reads."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.rectifier = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU()

    def forward(self, images: Tensor) -> Tensor:
        before = self.first(images)
        return self.rectifier(self.second(nn.functional.relu(before) - before))


def test_rectifiers_in_place_spoil_nothing(photos: Path) -> None:
    trace = trace_model(Both().eval(), (SIZE, SIZE))
    names = ["first", "relu", "second", "rectifier"]
    sweeper = Sweeper(trace, select_layers(trace, names), 4, 16)
    images = torch.cat([batch.images for batch in stream(open_source(photos), SMALL, workers=0)])
    sweeper.update(Batch(images, torch.arange(len(images)), [None] * len(images), []), Progress())
    for topk, maps in zip(sweeper.topks, trace.activations(images, names).values(), strict=True):
        best = maps.amax((2, 3)).T.sort(descending=True).values[:, :4].double()
        torch.testing.assert_close(topk.compute().values, best)
    assert sweeper.in_place == {trace.resolve("rectifier")}


def test_dead_maps_are_listed_and_not_drawn(gallery: Gallery) -> None:
    dead = {layer["name"]: layer["dead"] for layer in gallery.info["layers"]}
    assert dead["0"] == [DEAD]
    assert DEAD in gallery.maps("0")  # before the rectifier a negative maximum can be drawn
    assert DEAD in dead["1"]
    assert DEAD not in gallery.maps("1")
    with pytest.raises(ValueError, match="that fired, got 2"):
        gallery.picture("1", DEAD)
    script = (gallery.path / "maps/001/layer.js").read_text()
    shown = json.loads(script.removeprefix("showLayer(1, ").removesuffix(");\n"))["maps"]
    assert [channel for channel, *_ in shown] == gallery.maps("1")
    drawn = len(list((gallery.path / "maps").rglob("*.webp")))
    assert drawn == sum(len(gallery.maps(layer)) for layer in LAYERS)


def test_record(gallery: Gallery) -> None:
    info = gallery.info
    assert info["data"]["images"] == 13
    assert info["data"]["skipped"] == [
        {"image": "cats/bad.jpg", "reason": "not an image file"},
        {"image": "notes.txt", "reason": "not an image by its suffix"},
    ]
    assert len(info["model"]["weights_sha256"]) == 64
    assert [layer["name"] for layer in info["layers"]] == list(LAYERS)
    assert [layer["rectified"] for layer in info["layers"]] == [False, True, True]
    assert set(info["seconds"]) == {"sweep", "project", "write"}


def test_other_weights_have_another_hash(gallery: Gallery, photos: Path, tmp_path: Path) -> None:
    model = small_network()
    with torch.no_grad():
        model[3].bias[0] += 1e-3
    other = build_gallery(model, photos, out=tmp_path, **OPTIONS)
    assert other.info["model"]["weights_sha256"] != gallery.info["model"]["weights_sha256"]


def test_patches_show_the_image_at_the_receptive_field(gallery: Gallery, photos: Path) -> None:
    height = gallery.info["layers"][2]["receptive_field"][0]
    rows = [row for row in gallery.table.to_pylist() if row["layer"] == "4" and row["rank"] == 1]
    row = next(row for row in rows if min(row["top"], SIZE - height) + 4 < min(row["left"], SIZE - height))
    picture = np.asarray(gallery.picture("4", row["channel"]).convert("RGB")).astype(float)
    tile = picture.shape[0] // 2  # 4 activations: a square of 2 by 2
    right = picture[:tile, -tile:]
    image = np.asarray(Image.open(photos / row["image"]).resize((SIZE, SIZE), Image.Resampling.BILINEAR))
    top, left = (min(row[side], SIZE - height) for side in ("top", "left"))
    crop = Image.fromarray(image[top : top + height, left : left + height])
    expected = np.asarray(crop.resize((tile, tile), Image.Resampling.BICUBIC)).astype(float)
    assert np.abs(right - expected).mean() < 12  # the pictures are compressed
    assert np.abs(np.roll(right, tile // 3, 1) - expected).mean() > 20


def test_projections_are_those_of_the_deconvnet(gallery: Gallery, photos: Path) -> None:
    row = next(row for row in gallery.table.to_pylist() if row["layer"] == "4" and row["rank"] == 0)
    source = open_source(photos)
    image = SMALL(source.load(row["image_id"])[0])[None]
    units = torch.tensor([[0, row["channel"], row["row"], row["col"]]])
    dense = zf.DeconvNet(small_network()).project(image, layer="4", units=units).dense()[0]
    height = gallery.info["layers"][2]["receptive_field"][0]
    top, left = (min(row[side], SIZE - height) for side in ("top", "left"))
    expected = dense[:, top : top + height, left : left + height].permute(1, 2, 0).numpy()
    picture = np.asarray(gallery.picture("4", row["channel"]).convert("RGB")).astype(float)
    tile = picture.shape[0] // 2
    shown = np.asarray(Image.fromarray(picture[:tile, :tile].astype(np.uint8)).resize((height, height))) - 127.5
    assert np.corrcoef(shown.flatten(), expected.flatten())[0, 1] > 0.9


def test_patches_alone(photos: Path, tmp_path: Path) -> None:
    gallery = build_gallery(small_network(), photos, out=tmp_path, projections=False, **OPTIONS)
    assert gallery.info["blocks"] == ["patches", "activations"]
    with pytest.raises(ValueError, match=r"Gallery\.projections: expected a gallery with projections"):
        gallery.projections("4", 0)
    picture = gallery.picture("4", gallery.maps("4")[0])
    assert picture.width == picture.height


def test_nan_activations_are_counted_and_never_ranked(tmp_path: Path) -> None:
    class Fragile(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return (images - 0.5).sqrt()  # NaN below 0.5

    images = torch.rand(6, 3, 5, 5)
    images[0, 0] = 0.1
    gallery = build_gallery(
        nn.Sequential(nn.Conv2d(3, 3, 1), Fragile()).eval(), list(images), out=tmp_path, layers="1", workers=0,
        progress=False, projections=False,
    )  # fmt: skip
    assert sum(gallery.info["layers"][0]["nan_activations"].values()) > 0
    assert not any(math.isnan(row["value"]) for row in gallery.table.to_pylist())


def test_layers_without_maps(photos: Path, tmp_path: Path) -> None:
    model = nn.Sequential(small_network(), nn.Flatten(), nn.Linear(6 * (SIZE // 2) ** 2, 3)).eval()
    gallery = build_gallery(model, photos, out=tmp_path, **{**OPTIONS, "layers": "2"})
    row = gallery.table.to_pylist()[0]
    assert (row["row"], row["col"]) == (0, 0)
    assert (row["top"], row["left"], row["bottom"], row["right"]) == (0, 0, SIZE, SIZE)


def test_default_layers_are_the_rectifiers() -> None:
    trace = zf.trace_model(small_network())
    assert default_layers(trace) == ["1", "4"]
    assert default_layers(zf.trace_model(nn.Sequential(nn.Conv2d(3, 2, 3)).eval())) == ["0"]

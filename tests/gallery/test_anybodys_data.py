"""Galleries of networks and images of any kind: channels, depths, forms of files, preprocessings, outputs."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from torch import Tensor, nn

from zfkernels.cli.app import app
from zfkernels.data import open_source
from zfkernels.gallery import Gallery, build_gallery
from zfkernels.gallery.show import Show
from zfkernels.models import Planes, Preprocess, PreprocessFunction, load_object

transforms = pytest.importorskip("torchvision.transforms")
v2 = pytest.importorskip("torchvision.transforms.v2")


def network(channels: int, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(channels, 5, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(5, 6, 3, padding=1), nn.ReLU()
    ).eval()


def build(model: nn.Module, data: Any, out: Path, **options: Any) -> Gallery:
    options = {"layers": ["1", "4"], "top_k": 2, "workers": 0, "progress": False, **options}
    return build_gallery(model, data, out=out, **options)


def strongest(model: nn.Module, images: Tensor, layer: int) -> list[tuple[int, int, float]]:
    """(channel, image, value) of the strongest activation of each map, straight from the network."""
    with torch.no_grad():
        maxima = model[: layer + 1](images).amax((2, 3))
    return [
        (channel, int(maxima[:, channel].argmax()), float(maxima[:, channel].max()))
        for channel in range(maxima.shape[1])
    ]


def check(gallery: Gallery, model: nn.Module, images: Tensor, layer: int = 4) -> None:
    rows = [row for row in gallery.table.to_pylist() if row["layer"] == str(layer) and row["rank"] == 0]
    found = [(row["channel"], row["image_id"], row["value"]) for row in rows]
    for (channel, image, value), (c, i, v) in zip(found, strongest(model, images, layer), strict=True):
        assert channel == c
        assert value == pytest.approx(v, rel=1e-4, abs=1e-6)
        assert image == i or v == 0
    assert (gallery.path / "index.html").is_file()
    shown = next(layer for layer in gallery.layers if gallery.maps(layer))
    assert gallery.patches(shown, gallery.maps(shown)[0]).float().std() > 0


def test_one_channel_digits(tmp_path: Path) -> None:
    """Scikit-learn's digits, 8x8 with values from 0 to 16, as a stack of arrays with labels."""
    digits = pytest.importorskip("sklearn.datasets").load_digits()
    images = digits.images[:120].astype(np.float32) / 16
    np.savez(tmp_path / "digits.npz", images=images, labels=digits.target[:120])
    model = network(1)
    gallery = build(model, tmp_path / "digits.npz", tmp_path / "out")
    check(gallery, model, torch.from_numpy(images)[:, None])
    assert {row["label"] for row in gallery.table.to_pylist()} <= {str(n) for n in range(10)}
    shown = gallery.image(gallery.table.to_pylist()[0]["image_id"]).float()
    assert (shown[0] - shown[1]).abs().max() <= 12  # grey, up to WebP


@pytest.mark.parametrize("channels", [4, 12])
@pytest.mark.parametrize("show", [None, "grey", (3, 1, 0), lambda images: images[:, :1] / 3000])
def test_bands(channels: int, show: Any, tmp_path: Path) -> None:
    torch.manual_seed(1)
    images = torch.rand(6, channels, 20, 24) * 3000
    (tmp_path / "bands").mkdir()
    for n, image in enumerate(images):
        array = image.numpy() if n % 2 else image.permute(1, 2, 0).numpy()  # channels first or last
        np.save(tmp_path / "bands" / f"{n}.npy", array)
    model = network(channels)
    check(build(model, tmp_path / "bands", tmp_path / "out", show=show), model, images)


def deep_tiff(path: Path, array: np.ndarray) -> None:
    Image.fromarray(array.astype(np.uint16)).save(path)


def test_twelve_bits_reach_the_preprocessing_unscaled(tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    torch.manual_seed(2)
    values = torch.randint(0, 4096, (5, 20, 20))
    for n, value in enumerate(values):
        deep_tiff(tmp_path / "scans" / f"{n}.tif", value.numpy())
    seen: list[float] = []

    def preprocess(picture: Image.Image) -> Tensor:
        array = np.asarray(picture).astype(np.float32)
        seen.append(float(array.max()))
        return torch.from_numpy(array / 4095)[None]

    model = network(1)
    gallery = build(model, tmp_path / "scans", tmp_path / "out", preprocess=preprocess)
    assert max(seen) > 4000
    check(gallery, model, values[:, None].float() / 4095)
    pixels = gallery.image(int(gallery.table.to_pylist()[0]["image_id"]))
    assert pixels.float().max() > 200  # not black


def test_pages_of_a_tiff_file(tmp_path: Path) -> None:
    (tmp_path / "stack").mkdir()
    pages = [Image.new("RGB", (9, 9), (20 * n, 0, 0)) for n in range(4)]
    pages[0].save(tmp_path / "stack" / "film.tif", save_all=True, append_images=pages[1:])
    pages[2].save(tmp_path / "stack" / "single.tiff")
    source = open_source(tmp_path / "stack")
    assert list(source.keys) == ["film.tif#0", "film.tif#1", "film.tif#2", "film.tif#3", "single.tiff"]
    assert [source.load(n)[0].getpixel((0, 0))[0] for n in range(5)] == [0, 20, 40, 60, 40]


def test_floating_point_pictures(tmp_path: Path) -> None:
    (tmp_path / "floats").mkdir()
    torch.manual_seed(3)
    images = torch.randn(4, 1, 16, 16)
    for n, image in enumerate(images):
        Image.fromarray(image[0].numpy()).save(tmp_path / "floats" / f"{n}.tif")
    model = network(1)
    gallery = build(
        model, tmp_path / "floats", tmp_path / "out", preprocess=lambda p: torch.from_numpy(np.array(p))[None]
    )
    check(gallery, model, images)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for n in range(5):
        Image.fromarray(generator.integers(0, 256, (30, 40, 3), dtype=np.uint8)).save(folder / f"{n}.png")
    Image.fromarray(generator.integers(0, 256, (30, 40), dtype=np.uint8)).save(folder / "5.png")  # a grey one
    return folder


NORMAL = ([0.5, 0.4, 0.3], [0.2, 0.3, 0.4])
PREPROCESSINGS = {
    "v1": transforms.Compose(
        [transforms.Resize(24), transforms.CenterCrop(20), transforms.ToTensor(), transforms.Normalize(*NORMAL)]
    ),
    "v2": v2.Compose(
        [v2.ToImage(), v2.Resize(24), v2.CenterCrop(20), v2.ToDtype(torch.float32, scale=True), v2.Normalize(*NORMAL)]
    ),
    "not square": transforms.Compose([transforms.Resize((18, 26)), transforms.ToTensor()]),
    "bent": lambda picture: transforms.functional.to_tensor(picture.resize((20, 20))).square().sqrt().tanh(),
}


@pytest.mark.parametrize("name", PREPROCESSINGS)
def test_any_preprocessing(name: str, photos: Path, tmp_path: Path) -> None:
    preprocess, model = PREPROCESSINGS[name], network(3)
    images = torch.stack([preprocess(Image.open(photos / f"{n}.png").convert("RGB")) for n in range(6)])
    gallery = build(model, photos, tmp_path / "out", preprocess=preprocess)
    check(gallery, model, torch.as_tensor(images))
    assert gallery.info["image_size"] == list(images.shape[2:])
    if name in ("v1", "v2"):  # the normalisation is found and undone
        image_id = gallery.table.to_pylist()[0]["image_id"]
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in NORMAL)
        expected = (torch.as_tensor(images[image_id]) * std + mean) * 255
        assert (gallery.image(image_id) - expected).abs().mean() < 12  # up to WebP


class Processor:
    """What HuggingFace's processors look like."""

    model_input_names = ("pixel_values",)

    def __call__(self, images: Any, return_tensors: str) -> dict[str, Tensor]:
        assert return_tensors == "pt"
        return {"pixel_values": transforms.functional.to_tensor(images.resize((20, 20)))[None]}


def test_a_processor(photos: Path, tmp_path: Path) -> None:
    model = network(3)
    images = torch.stack(
        [
            transforms.functional.to_tensor(Image.open(photos / f"{n}.png").convert("RGB").resize((20, 20)))
            for n in range(6)
        ]
    )
    check(build(model, photos, tmp_path / "out", preprocess=Processor()), model, images)


def test_an_interrupted_run_knows_its_preprocessing_again(photos: Path, tmp_path: Path) -> None:
    one, other = PREPROCESSINGS["v1"], transforms.Compose([transforms.Resize((20, 20)), transforms.ToTensor()])
    assert PreprocessFunction(one).record() != PreprocessFunction(other).record()
    assert "0x" not in str(PreprocessFunction(lambda x: x).record())
    first = build(network(3), photos, tmp_path / "out", preprocess=one).table
    assert build(network(3), photos, tmp_path / "out", preprocess=one).table.equals(first)
    with pytest.raises(ValueError, match="expected"):
        build(network(3), photos, tmp_path / "out", preprocess=other)


def test_a_preprocessing_that_fails_on_one_image(photos: Path, tmp_path: Path) -> None:
    Image.new("RGB", (7, 7)).save(photos / "z.png")

    def preprocess(picture: Image.Image) -> Tensor:
        if picture.width == 7:
            raise RuntimeError("too small for this")
        return PREPROCESSINGS["v1"](picture)

    gallery = build(network(3), photos, tmp_path / "out", preprocess=preprocess)
    assert gallery.info["data"]["skipped"] == [{"image": "z.png", "reason": "RuntimeError: too small for this"}]
    sizes = build(network(3), photos, tmp_path / "sizes", preprocess=transforms.ToTensor()).info["data"]["skipped"]
    assert sizes == [{"image": "z.png", "reason": "prepared as (3, 7, 7), where other images are (3, 30, 40)"}]


class Several(nn.Module):
    """A network that returns a mapping of tuples."""

    def __init__(self) -> None:
        super().__init__()
        self.body = network(3)

    def forward(self, x: Tensor) -> Any:
        y = self.body(x)
        return {"maps": (y, y.mean((2, 3))), "none": None, "n": 3}


def test_outputs_of_any_form(photos: Path, tmp_path: Path) -> None:
    model, preprocess = Several().eval(), PREPROCESSINGS["v1"]
    gallery = build(model, photos, tmp_path / "out", preprocess=preprocess, layers=["body.1", "body.4"])
    assert gallery.layers == ["body.1", "body.4"]


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["kind:rectifier"], ["1", "4"]),
        (["*"], ["0", "1", "2", "3", "4"]),
        (["3", "kind:rectifier", "1"], ["3", "1", "4"]),
        ("?", ["0", "1", "2", "3", "4"]),
    ],
)
def test_patterns_of_layers(patterns: Any, expected: list[str], photos: Path, tmp_path: Path) -> None:
    gallery = build(network(3), photos, tmp_path / "out", preprocess=PREPROCESSINGS["v1"], layers=patterns)
    assert gallery.layers == expected


class Rows:
    """A map-style data set of dicts."""

    def __init__(self, images: str, labels: str) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> dict[str, Any]:
        if index >= 4:
            raise IndexError
        picture = Image.fromarray(np.random.default_rng(index).integers(0, 256, (20, 20, 3), dtype=np.uint8))
        return {"id": index, self.images: picture, self.labels: index % 2}


@pytest.mark.parametrize(("images", "labels"), [("image", "label"), ("img", "fine_label"), ("photo", "target")])
def test_data_sets_of_dicts(images: str, labels: str, tmp_path: Path) -> None:
    rows = Rows(images, labels)
    gallery = build(network(3), rows, tmp_path / "out", preprocess=transforms.ToTensor())
    assert {row["label"] for row in gallery.table.to_pylist()} == {"0", "1"}
    rows.features = {labels: type("ClassLabel", (), {"names": ["cat", "dog"]})()}  # as HuggingFace's data sets have
    assert open_source(rows).load(1)[1] == "dog"


@pytest.mark.parametrize("library", ["pandas", "pyarrow"])
def test_tables(library: str, photos: Path, tmp_path: Path) -> None:
    columns = {"file": [str(photos / f"{n}.png") for n in (3, 1, 9)], "class": ["a", "b", "c"]}
    table = pytest.importorskip(library)
    data = table.DataFrame(columns) if library == "pandas" else table.table(columns)
    gallery = build(network(3), data, tmp_path / "out", preprocess=PREPROCESSINGS["v1"])
    assert {(row["image_id"], row["label"]) for row in gallery.table.to_pylist()} == {(0, "a"), (1, "b")}
    assert gallery.info["data"]["skipped"] == [{"image": columns["file"][2], "reason": "No such file or directory"}]
    with pytest.raises(ValueError, match="expected data a table with a column of"):
        open_source(data.rename(columns={"file": "x"}) if library == "pandas" else data.rename_columns(["x", "class"]))


def test_small_pictures_are_not_enlarged_in_silence(tmp_path: Path) -> None:
    (tmp_path / "cifar").mkdir()
    for n in range(2):
        Image.new("RGB", (32, 32), (90 * n, 50, 20)).save(tmp_path / "cifar" / f"{n}.png")
    with pytest.warns(UserWarning, match="pictures of 32x32 pixels are enlarged to 224, ImageNet's size"):
        build(network(3), tmp_path / "cifar", tmp_path / "out", projections=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        build(network(3), tmp_path / "cifar", tmp_path / "said", preprocess=Preprocess(32, 32), projections=False)


RIGHT = {"preprocess": PREPROCESSINGS["v1"]}
REFUSED: list[tuple[int, dict[str, Any], type[Exception], str]] = [
    (3, {"preprocess": "resize"}, TypeError, "expected preprocess a function from a picture to a tensor"),
    (3, {"preprocess": lambda p: torch.zeros(4, 20, 20)}, ValueError, "expected images of 3 channels"),
    (3, {"preprocess": lambda p: torch.zeros(20, 20)}, ValueError, "that returns [C, H, W], got (20, 20)"),
    (3, {"preprocess": lambda p: torch.zeros(3, 9, 9).long()}, ValueError, "returns floating-point numbers"),
    (3, {**RIGHT, "show": (0, 1)}, ValueError, "expected show three channels from 0 to 2, got (0, 1)"),
    (3, {**RIGHT, "show": "hsv"}, ValueError, "expected show 'rgb' or 'grey', got 'hsv'"),
    (3, {**RIGHT, "show": 3}, TypeError, "expected show 'rgb', 'grey', three channels or a function, got int"),
    (3, {**RIGHT, "layers": "x*"}, ValueError, "a pattern that some layer fits, got 'x*'"),
    (3, {**RIGHT, "layers": "kind:x"}, ValueError, "got 'kind:x'; kinds: ["),
    (5, {}, ValueError, "an array (30, 40, 3) instead of one of 5 channels"),
]


@pytest.mark.parametrize(("channels", "options", "error", "message"), REFUSED)
def test_refused(
    channels: int, options: dict[str, Any], error: type[Exception], message: str, photos: Path, tmp_path: Path
) -> None:
    with pytest.raises(error) as refusal:
        build(network(channels), photos, tmp_path / "out", **options)
    assert message in str(refusal.value)


def test_how_images_are_shown() -> None:
    images = torch.arange(2 * 4 * 3 * 3, dtype=torch.float32).view(2, 4, 3, 3) * 100
    planes = Planes(4)
    assert Show.of(None, 4, planes).pixels(images).shape == (2, 3, 3, 3)
    chosen = Show.of((2, 2, 0), 4, planes).pixels(images)
    assert torch.equal(chosen[:, 0], chosen[:, 1])
    assert chosen.amax() == 255
    assert chosen.amin() == 0
    grey = Show.of("grey", 4, planes).pixels(images)
    assert torch.equal(grey[:, 0], grey[:, 2])
    own = Show.of(lambda x: torch.full((len(x), 1, 3, 3), 0.5), 4, planes).pixels(images)
    assert (own == 128).all()
    with pytest.raises(ValueError, match=r"expected show a function to \[N, 3, H, W\]"):
        Show.of(lambda x: x, 4, planes).pixels(images)


def test_arrays_without_a_stack(tmp_path: Path) -> None:
    np.savez(tmp_path / "none.npz", names=np.arange(3))
    with pytest.raises(ValueError, match="expected data a file of arrays"):
        open_source(tmp_path / "none.npz")
    np.save(tmp_path / "objects.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(ValueError, match="expected data a file of arrays"):
        open_source(tmp_path / "objects.npy")


PREPARE = """
import torch
from torch import nn

def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d({channels}, 5, 3), nn.ReLU()).eval()

def prepare(bands):
    return torch.from_numpy(bands / 3000).float()
"""


def test_bands_on_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(PREPARE.format(channels=4))
    (tmp_path / "bands").mkdir()
    generator = np.random.default_rng(0)
    images = (generator.random((5, 4, 16, 16)) * 3000).astype(np.float32)
    for n, image in enumerate(images):
        np.save(tmp_path / "bands" / f"{n}.npy", image)
    own = tmp_path / "own.py"
    base = ["gallery", "--model", f"{own}:net", "--data", str(tmp_path / "bands"), "--workers", "0", "--top-k", "2"]
    for name, scale, options in (("plain", 1, []), ("prepared", 3000, ["--preprocess", f"{own}:prepare"])):
        result = CliRunner().invoke(app, [*base, *options, "--show", "2,1,0", "--out", str(tmp_path / name)])
        assert result.exit_code == 0, result.output
        gallery = Gallery.open(tmp_path / name)
        assert gallery.layers == ["1"]
        check(gallery, load_object(f"{own}:net", "x")(), torch.from_numpy(images) / scale, layer=1)
    refused = CliRunner().invoke(app, [*base, "--size", "12", "--out", str(tmp_path / "refused")])
    assert refused.exit_code == 2
    assert "expected --size for a network of three channels, got one of 4" in refused.output

"""Networks of timm's and transformers' by name: with the libraries where they are, and with stand-ins."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from zfkernels.models import Preprocess, get_model, preprocess_of

transforms = pytest.importorskip("torchvision.transforms")
PHOTO = Image.effect_noise((90, 70), 80).convert("RGB")


def network() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))


def transform(size: int = 20) -> Any:
    return transforms.Compose(
        [transforms.Resize(24, transforms.InterpolationMode.BICUBIC), transforms.CenterCrop(size),
         transforms.ToTensor(), transforms.Normalize((0.5, 0.4, 0.3), (0.2, 0.3, 0.4))]
    )  # fmt: skip


class Timm:
    """What of timm is used."""

    pretrained: list[bool] = []  # noqa: RUF012

    def is_model(self, name: str) -> bool:
        return name == "tiny"

    def list_models(self) -> list[str]:
        return ["tiny", "tinier"]

    def create_model(self, name: str, pretrained: bool) -> nn.Module:
        self.pretrained.append(pretrained)
        return network()


@pytest.fixture
def timm(monkeypatch: pytest.MonkeyPatch) -> Timm:
    data = SimpleNamespace(
        resolve_model_data_config=lambda model: {"size": 20},
        create_transform=lambda size, is_training: transform(size),
    )
    stand_in = Timm()
    monkeypatch.setattr(Timm, "pretrained", [])
    monkeypatch.setitem(sys.modules, "timm", stand_in)
    monkeypatch.setitem(sys.modules, "timm.data", data)
    return stand_in


def test_timm(timm: Timm, tmp_path: Path) -> None:
    model = get_model("timm:tiny")
    assert not model.training
    preprocess = preprocess_of(model)
    assert torch.equal(preprocess(PHOTO), transform()(PHOTO))
    assert preprocess.size == 20
    assert preprocess.mean == pytest.approx((0.5, 0.4, 0.3), abs=1e-3)
    assert preprocess.std == pytest.approx((0.2, 0.3, 0.4), rel=1e-3)
    state = {f"model.{key}": value + 1 for key, value in network().state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "w.pt")
    own = get_model("timm:tiny", tmp_path / "w.pt")
    assert torch.equal(own[0].bias, state["model.0.bias"])
    get_model("timm:tiny", None)
    assert timm.pretrained == [True, False, False]


def test_names_that_timm_has_not(timm: Timm) -> None:
    with pytest.raises(ValueError, match=r"a name of timm's, got 'tin' \(near: tiny, tinier\)"):
        get_model("timm:tin")


def test_weights_of_another_network_say_why_they_are_refused(timm: Timm, tmp_path: Path) -> None:
    torch.save({"0.weight": network()[0].weight}, tmp_path / "w.pt")
    with pytest.raises(ValueError, match=r"lacks 0.bias and 2 more \(names and shapes all have to be the network's"):
        get_model("timm:tiny", tmp_path / "w.pt")


class Processor:
    model_input_names = ("pixel_values",)

    def __call__(self, images: Any, return_tensors: str) -> dict[str, Tensor]:
        return {"pixel_values": transform()(images)[None]}


def classifier(path: str, **options: Any) -> nn.Module:
    assert options == {"local_files_only": True, "trust_remote_code": False}
    if "broken" in path:
        raise ValueError("Unrecognized model\nand more")
    model = network()
    model.config = SimpleNamespace(id2label={1: "dog", 0: "cat"})
    return model


@pytest.fixture
def transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    auto = SimpleNamespace(from_pretrained=lambda path, **options: Processor())
    stand_in = SimpleNamespace(
        AutoModelForImageClassification=SimpleNamespace(
            from_pretrained=classifier,
            from_config=lambda config: classifier("", local_files_only=True, trust_remote_code=False),
        ),
        AutoConfig=auto,
        AutoImageProcessor=auto,
    )
    monkeypatch.setitem(sys.modules, "transformers", stand_in)


@pytest.mark.usefixtures("transformers")
@pytest.mark.parametrize("weights", ["DEFAULT", None])
def test_huggingface(weights: str | None, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    model = get_model(f"hf:{tmp_path}", weights)
    assert model.class_names == ("cat", "dog")
    assert torch.equal(preprocess_of(model)(PHOTO), transform()(PHOTO))


@pytest.mark.usefixtures("transformers")
def test_folders_that_transformers_refuses(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected hf:FOLDER a folder with config\.json, got"):
        get_model(f"hf:{tmp_path}")
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"an image classifier, got .*\(Unrecognized model\)$"):
        get_model(f"hf:{broken}")


@pytest.mark.parametrize(("name", "module"), [("timm:resnet18", "timm"), ("hf:folder", "transformers")])
def test_missing_libraries(name: str, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf"{module} is not installed: pip install 'zfkernels\[hubs\]'"):
        get_model(name)


def test_another_size_takes_the_place_of_the_librarys(timm: Timm) -> None:
    from zfkernels.cli.network import changed

    preprocess = preprocess_of(get_model("timm:tiny"))
    assert changed(preprocess, {}) is preprocess
    other = changed(preprocess, {"size": 32})
    assert type(other) is Preprocess
    assert other(PHOTO).shape == (3, 32, 32)


def test_the_libraries_themselves() -> None:
    library = pytest.importorskip("timm")
    model = get_model("timm:resnet18", None)
    config = library.data.resolve_model_data_config(model)
    assert preprocess_of(model).size == config["input_size"][1]
    assert preprocess_of(model)(PHOTO).shape == tuple(config["input_size"])


def test_a_gallery_of_transformers_own(tmp_path: Path) -> None:
    library = pytest.importorskip("transformers")
    from zfkernels.gallery import build_gallery

    config = library.ResNetConfig(
        num_channels=3, embedding_size=8, hidden_sizes=[8, 12], depths=[1, 1], layer_type="basic", num_labels=3
    )
    library.ResNetForImageClassification(config).save_pretrained(tmp_path / "net")
    library.ViTImageProcessor(size={"height": 40, "width": 40}).save_pretrained(tmp_path / "net")
    (tmp_path / "photos").mkdir()
    for n in range(3):
        Image.effect_noise((90, 70), 20 + 30 * n).convert("RGB").save(tmp_path / "photos" / f"{n}.png")
    model = get_model(f"hf:{tmp_path / 'net'}")
    assert model.class_names == ("LABEL_0", "LABEL_1", "LABEL_2")
    gallery = build_gallery(
        model, tmp_path / "photos", layers=None, out=tmp_path / "out", top_k=2, workers=0, progress=False
    )
    assert gallery.info["image_size"] == [40, 40]
    assert gallery.maps(gallery.layers[0])

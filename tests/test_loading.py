"""Networks by name, with weights from files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from zfkernels.models import ConvNet, Preprocess, get_categories, get_model, get_preprocess, preprocess_of, zfnet64


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    return {key: torch.randn_like(value) for key, value in zfnet64().state_dict().items()}


@pytest.mark.parametrize("kind", ["safetensors", "half", "pt", "checkpoint"])
def test_weights_from_a_file(tmp_path: Path, state: dict[str, torch.Tensor], kind: str) -> None:
    path = tmp_path / ("w.safetensors" if kind in ("safetensors", "half") else "w.pt")
    if kind == "half":
        state = {key: value.half() for key, value in state.items()}
    if kind in ("safetensors", "half"):
        save_file(state, path)
    else:
        torch.save(state if kind == "pt" else {"state_dict": state, "epoch": torch.tensor(3)}, path)
    model = get_model("zfnet64", path)
    assert not model.training
    for key, value in model.state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, state[key].float())


def test_shipped_weights() -> None:
    model = get_model("zfnet64")
    assert isinstance(model, ConvNet)
    assert model.input_size == get_preprocess("zfnet64").size == 64
    assert len(get_categories("zfnet64")) == model.classifier[-1].out_features


def test_torchvision_networks_by_name() -> None:
    model = get_model("squeezenet1_1", None)
    assert type(model).__name__ == "SqueezeNet"
    assert not model.training
    assert (get_preprocess("squeezenet1_1").size, get_preprocess("squeezenet1_1").resize) == (224, 256)
    assert (get_preprocess("inception_v3").size, get_preprocess("inception_v3").resize) == (299, 342)
    assert get_categories("squeezenet1_1")[:2] == ["tench", "goldfish"]


def test_a_network_knows_what_it_takes() -> None:
    assert preprocess_of(get_model("zfnet64")) == get_preprocess("zfnet64")
    assert preprocess_of(get_model("inception_v3", None)) == get_preprocess("inception_v3")
    assert preprocess_of(zfnet64()) == Preprocess(size=64, resize=64)
    assert preprocess_of(nn.Conv2d(3, 1, 1)) == Preprocess()


def test_networks_that_ship_without_weights() -> None:
    with pytest.raises(ValueError, match="expected weights for alexnet2012, which ships without: name a file"):
        get_model("alexnet2012")
    assert get_categories("alexnet2012") == []
    assert get_preprocess("alexnet2012").size == 224


def test_a_function_of_a_package() -> None:
    model = get_model("zfkernels.models:zfnet64", None)
    assert isinstance(model, ConvNet)
    assert not model.training


@pytest.mark.parametrize("change", ["missing", "unexpected", "reshaped"])
def test_weights_of_another_network(tmp_path: Path, state: dict[str, torch.Tensor], change: str) -> None:
    if change == "missing":
        del state["features.0.bias"]
    elif change == "unexpected":
        state["extra"] = torch.ones(1)
    else:
        state["features.0.bias"] = torch.ones(3)
    torch.save(state, tmp_path / "w.pt")
    words = {"missing": "lacks features.0.bias", "unexpected": "also holds extra"}
    with pytest.raises(ValueError, match=words.get(change, "another shape for features.0.bias")):
        get_model("zfnet64", tmp_path / "w.pt")


@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
def test_a_file_that_holds_no_weights(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"neither pickle nor safetensors")
    with pytest.raises(ValueError, match=r"get_model: expected weights a .*, got .*w") as caught:
        get_model("zfnet64", tmp_path / name)
    assert "\n" not in str(caught.value)


WRONG = {
    "a list": ([torch.ones(1)], "a state dict, got .* with a list"),
    "a number": ({"features.0.bias": 3}, "tensors by name, got .* with a int under 'features.0.bias'"),
    "no name": ({3: torch.ones(1)}, "tensors by name, got .* with a Tensor under 3"),
    "nested": ({"state_dict": {"a": {"b": torch.ones(1)}}}, "tensors by name, got .* with a dict under 'a'"),
    "sparse": ({"a": torch.ones(2, 2).to_sparse()}, "weights of plain numbers, got .* torch.sparse_coo under 'a'"),
    "complex": ({"a": torch.ones(2).cfloat()}, "weights of plain numbers, got .* torch.complex64, .* under 'a'"),
    "meta": ({"a": torch.ones(2, device="meta")}, "weights of plain numbers, got .* no values under 'a'"),
    "control": ({"a\x1b\n": torch.ones(2)}, "lacks features"),
    "empty": ({}, "lacks features.0.weight and"),
}


@pytest.mark.parametrize("case", WRONG)
def test_state_dicts_of_a_wrong_form(tmp_path: Path, case: str) -> None:
    state, message = WRONG[case]
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(ValueError, match=f"get_model: expected .*{message}") as caught:
        get_model("zfnet64", tmp_path / "w.pt")
    assert str(caught.value).isprintable()


def test_a_key_that_moves_the_cursor_is_escaped(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    torch.save(state | {"x\x1b[2J\n": torch.ones(1)}, tmp_path / "w.pt")
    with pytest.raises(ValueError, match=r"also holds x\\x1b\[2J\\n \(names and shapes"):
        get_model("zfnet64", tmp_path / "w.pt")


def test_options_of_any_size_take_no_memory(
    tmp_path: Path, state: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    save_file(state, tmp_path / "w.safetensors", {"options": '{"num_classes": 1000000000}'})
    monkeypatch.setattr(torch.nn.Linear, "reset_parameters", lambda self: _only_meta(self.weight))
    with pytest.raises(ValueError, match="has another shape for classifier"):
        get_model("zfnet64", tmp_path / "w.safetensors")
    save_file(state, tmp_path / "w.safetensors", {"options": "[" * 100_000})
    with pytest.raises(ValueError, match="readable options"):
        get_model("zfnet64", tmp_path / "w.safetensors")


def _only_meta(weight: torch.Tensor) -> None:
    assert weight.is_meta


MODULES = {
    "raises": ("def make(): raise ZeroDivisionError('no')", "ZeroDivisionError: no"),
    "syntax": ("def make(:", "SyntaxError: invalid syntax"),
    "at import": ("raise KeyError('x')", "KeyError: 'x'"),
    "exits": ("raise SystemExit(3)", "SystemExit: 3"),
    "takes arguments": ("def make(x): pass", "TypeError: make.. missing 1 required"),
    "lacks it": ("", "AttributeError: module .* has no attribute 'make'"),
}


@pytest.mark.parametrize("case", MODULES)
def test_a_function_that_makes_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    text, message = MODULES[case]
    name = f"module_that_{case.replace(' ', '_')}"
    (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        ValueError, match=rf"expected model package.module:function or .*, got '{name}:make' \({message}"
    ):
        get_model(f"{name}:make", None)


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "w.pt").write_bytes(b"x")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(PermissionError):
        get_model("zfnet64", tmp_path / "w.pt")


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (tmp_path / "touched",))  # type: ignore[return-value]

    torch.save({"weight": Evil()}, tmp_path / "w.pt")
    with pytest.raises(ValueError, match="a state dict that loads safely"):
        get_model("zfnet64", tmp_path / "w.pt")
    assert not (tmp_path / "touched").exists()

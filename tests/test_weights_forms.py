"""Weights as people save them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from zfkernels.models import get_model, zfnet64


def pairs() -> dict[str, Any]:
    state = zfnet64(num_classes=3, weights=None).state_dict()
    prefixed = {prefix: {prefix + key: value for key, value in state.items()}
                for prefix in ("module.", "model.", "_orig_mod.", "module._orig_mod.", "model.net.")}  # fmt: skip
    return {
        "plain": state,
        **prefixed,
        "model": {"model": state, "epoch": 3},
        "state_dict": {"state_dict": prefixed["module."], "optimizer": {"lr": 0.1}},
        "Lightning's": {"state_dict": prefixed["model."], "epoch": 1, "pytorch-lightning_version": "2.4"},
        "deep": {"model": {"state_dict": prefixed["_orig_mod."]}},
        "model_state_dict": {"model_state_dict": state},
    }


@pytest.mark.parametrize("form", pairs())
def test_forms_of_weights(form: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    saved = pairs()[form]
    torch.manual_seed(0)
    expected = pairs()["plain"]
    torch.save(saved, tmp_path / "weights.pt")
    (tmp_path / "own.py").write_text(
        "from zfkernels.models import zfnet64\ndef net(): return zfnet64(num_classes=3, weights=None)\n"
    )
    model = get_model(f"{tmp_path / 'own.py'}:net", tmp_path / "weights.pt")
    found = model.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], value) for key, value in expected.items())


def test_a_network_whose_own_names_have_the_prefix(tmp_path: Path) -> None:
    (tmp_path / "wrapped.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.model = nn.Conv2d(3, 2, 3)\n"
        "    def forward(self, x):\n"
        "        return self.model(x)\n"
    )
    conv = nn.Conv2d(3, 2, 3)
    torch.save({f"model.{key}": value for key, value in conv.state_dict().items()}, tmp_path / "weights.pt")
    model = get_model(f"{tmp_path / 'wrapped.py'}:Net", tmp_path / "weights.pt")
    assert torch.equal(model.model.weight, conv.weight)


def test_other_names_are_still_refused(tmp_path: Path) -> None:
    state = zfnet64(weights=None).state_dict()
    torch.save({"model": {**{f"module.{key}": value for key, value in state.items()}, "extra": torch.ones(1)}},
               tmp_path / "weights.pt")  # fmt: skip
    with pytest.raises(ValueError, match=r"expected weights of zfnet64, got .* which lacks"):
        get_model("zfnet64", tmp_path / "weights.pt")

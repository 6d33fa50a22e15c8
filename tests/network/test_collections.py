"""Networks of torchvision, and small ones that stand for other collections, by the script that runs all of them."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from families import BLOCKS, family
from support import zoo

ROOT = Path(__file__).resolve().parents[2]
NETWORKS = (
    "alexnet", "squeezenet1_0", "squeezenet1_1", "resnet18", "vgg11", "zfnet64", "mobilenet_v3_small",
    "shufflenet_v2_x1_0", "vit", "mnasnet1_0",
)  # fmt: skip
EARLY = ("mobilenet_v3_small", "vit")  # windows end in the first blocks: at a gate, at attention


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("collections_of_networks", ROOT / "benchmarks" / "zoo.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    path = list(sys.path)
    spec.loader.exec_module(module)
    sys.path[:] = path  # the script adds folders, one of them with a module of the name of one of the tests'
    return module


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_of_torchvision(script: ModuleType, name: str) -> None:
    model = zoo.network(name)
    x = zoo.photos(1, zoo.SIZES[name])
    verdict, possible, executed, end = script.check_sweep(model, x)
    assert verdict == "right"
    assert executed >= 1 + 0.8 * (possible - 1)
    assert (float(end.split()[1]) > 0.9) == (name not in EARLY)
    assert script.check_projection(model, x) == "right"


@pytest.mark.parametrize("name", BLOCKS)
def test_families(script: ModuleType, name: str) -> None:
    model, end = family(name)
    x = torch.randn(1, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    verdict, possible, executed, found = script.check_sweep(model, x)
    assert verdict == "right"
    assert executed >= 1 + 0.8 * (possible - 1) - 0.05
    assert found.split()[0] == end
    assert script.check_projection(model, x, place=1.0) == "right"

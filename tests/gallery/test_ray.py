"""The first pass on a Ray cluster of two nodes, a worker of which dies in mid-run."""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from small import OPTIONS, SIZE
from torch import Tensor, nn

from zfkernels.gallery import build_gallery

COUNT = 40


class Photos:
    """A data set whose 17th item kills the worker that reads it, once."""

    classes = ("cat", "dog", "fish")

    def __init__(self, dead: Path | None) -> None:
        self.dead = dead

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        if index == 17:
            die_once(self.dead)
        if index == 5:
            raise OSError("broken pipe")
        blocks = np.random.default_rng(index % 37).integers(0, 256, (5, 5, 3), dtype=np.uint8)
        return Image.fromarray(blocks.repeat(5, 0).repeat(5, 1)), index % 3


class Network(nn.Sequential):
    """A network whose actor dies in the middle of its second batch, once."""

    def __init__(self, dead: Path | None) -> None:
        torch.manual_seed(0)
        super().__init__(nn.Conv2d(3, 5, 3, padding=1), Mortal(dead), nn.ReLU(), nn.Conv2d(5, 6, 3, 2))


class Mortal(nn.Module):
    """Ends its process when it is computed for the second time there; recording it computes nothing."""

    def __init__(self, dead: Path | None) -> None:
        super().__init__()
        self.dead = dead

    def forward(self, x: Tensor) -> Tensor:
        return mortal()(x, str(self.dead or ""))


def mortal() -> Any:
    """An operation of PyTorch's that does so, made on the first call in each process."""
    if not hasattr(torch.ops.zfkernels_tests, "mortal"):
        calls: list[str] = []

        def compute(x: Tensor, dead: str) -> Tensor:
            calls.append(dead)
            if len(calls) == 2:
                die_once(Path(dead) if dead else None)
            return x * 1

        torch.library.define("zfkernels_tests::mortal", "(Tensor x, str dead) -> Tensor")
        torch.library.impl("zfkernels_tests::mortal", "CPU")(compute)
        torch.library.register_fake("zfkernels_tests::mortal")(lambda x, dead: torch.empty_like(x))
    return torch.ops.zfkernels_tests.mortal


def die_once(marker: Path | None) -> None:
    if marker is None or os.getpid() == int(os.environ.get("ZFKERNELS_DRIVER", "0")):
        return
    try:
        marker.touch(exist_ok=False)
    except FileExistsError:
        return
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("address", ["127.0.0.1:9", "ray://127.0.0.1:9"])
def test_an_address_without_a_cluster(
    require: Callable[[str, object, str], None], tmp_path: Path, address: str
) -> None:
    require("ray", importlib.util.find_spec("ray") is not None, "ray is not installed")
    with pytest.raises(OSError, match=f"expected address of a Ray cluster, got '{address}'.*refused"):
        build_gallery(
            Network(None).eval(), Photos(None), out=tmp_path, engine="ray", address=address,
            **{**OPTIONS, "layers": "0"},
        )  # fmt: skip
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def cluster(require: Callable[[str, object, str], None]) -> Iterator[Any]:
    found = importlib.util.find_spec("ray") is not None and importlib.util.find_spec("ray.data") is not None
    require("ray", found, "ray is not installed")
    import ray
    from ray.cluster_utils import Cluster

    os.environ.setdefault("RAY_worker_niceness", "0")  # a busy machine would let nice workers starve
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    here = {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    ray.init(address=cluster.address, log_to_driver=False, runtime_env={"env_vars": here})
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def test_equals_the_local_engine_though_workers_die(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZFKERNELS_DRIVER", str(os.getpid()))
    options = {**OPTIONS, "layers": ("0", "3"), "batch_size": 3}
    local = build_gallery(Network(None).eval(), Photos(None), out=tmp_path / "local", **options)
    decoder, actor = tmp_path / "a decoder died", tmp_path / "an actor died"
    far = build_gallery(Network(actor).eval(), Photos(decoder), out=tmp_path / "far", engine="ray", **options)
    assert decoder.exists()
    assert actor.exists()
    assert (far.path / "topk.parquet").read_bytes() == (local.path / "topk.parquet").read_bytes()
    assert (far.path / "maps.parquet").read_bytes() == (local.path / "maps.parquet").read_bytes()
    assert far.info["data"] == local.info["data"]
    assert far.info["data"]["images"] == COUNT - 1
    assert far.info["layers"] == local.info["layers"]
    assert OPTIONS["preprocess"].size == SIZE


def test_a_walk_is_refused(cluster: Any, tmp_path: Path) -> None:
    class Walk(torch.utils.data.IterableDataset):
        def __iter__(self) -> Iterator[Tensor]:
            return iter([torch.rand(3, 9, 9)])

    with pytest.raises(ValueError, match="expected engine 'local' for a data set that can only be walked through"):
        build_gallery(
            Network(None).eval(), Walk(), out=tmp_path, engine="ray",
            **{**OPTIONS, "layers": "0"},
        )  # fmt: skip

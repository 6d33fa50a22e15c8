"""What a replayed function returns: the numbers of calling it, in tensors of their own."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from zfkernels.occlusion.replay import Replay


class Graph:
    """Stands for a CUDA graph on a CPU: writes down nothing, and runs the function again into the same tensors."""

    again: Callable[[], None]

    def replay(self) -> None:
        self.again()


@pytest.fixture
def on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextlib.contextmanager
    def nothing(*_: Any) -> Iterator[None]:
        yield

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", nothing)
    monkeypatch.setattr(torch.cuda, "device", nothing)


def replayed(function: Callable[..., dict[str, torch.Tensor]], *inputs: torch.Tensor) -> Replay:
    replay = Replay(function, inputs)

    def again() -> None:
        for name, value in function(*replay.inputs).items():
            replay.result[name].copy_(value)

    replay.graph.again = again  # type: ignore[attr-defined]
    return replay


@pytest.mark.usefixtures("on_cpu")
def test_each_call_has_its_own_numbers_in_its_own_tensors() -> None:
    first = torch.arange(3.0)
    replay = replayed(lambda x, y: {"sum": x + y, "product": x * y}, first, torch.ones(3))
    one = replay(first, torch.full((3,), 2.0))
    two = replay(first + 1, torch.full((3,), 3.0))
    assert one["sum"].tolist() == [2, 3, 4]
    assert one["product"].tolist() == [0, 2, 4]
    assert two["sum"].tolist() == [4, 5, 6]
    assert two["product"].tolist() == [3, 6, 9]
    assert first.tolist() == [0, 1, 2]


@pytest.mark.usefixtures("on_cpu")
def test_as_many_tensors_as_were_captured() -> None:
    replay = replayed(lambda x: {"same": x * 1}, torch.ones(2))
    with pytest.raises(ValueError, match=r"zip\(\)"):
        replay(torch.ones(2), torch.ones(2))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu() -> None:
    x = torch.randn(64, 64, device="cuda")
    torch.nn.functional.relu(x @ x)  # loaded before it is captured
    replay = Replay(lambda a: {"out": torch.nn.functional.relu(a @ a)}, [x])
    for _ in range(3):
        given = torch.randn_like(x)
        torch.testing.assert_close(replay(given)["out"], torch.nn.functional.relu(given @ given))

"""Tiles of the Triton kernels: the default without a GPU, the fastest where somebody measured, kept for each GPU."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from zfkernels import tuning


@dataclass(frozen=True)
class Tile:
    rows: int
    taps: tuple[int, int] = (1, 1)


TILES = [Tile(64), Tile(128, (3, 3)), Tile(32)]
COSTS = {64: 3.0, 128: 1.0, 32: 2.0}


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("ZFKERNELS_CACHE", str(tmp_path / "kept"))
    monkeypatch.delenv("ZFKERNELS_TUNE", raising=False)
    return tmp_path / "kept"


class Clock:
    """A timer that knows how long each tile takes, and what ran."""

    def __init__(self, costs: dict[int, float] = COSTS) -> None:
        self.costs, self.ran = costs, []  # type: ignore[var-annotated]

    def run(self, tile: Tile) -> None:
        self.ran.append(tile)

    def __call__(self, call: Callable[[], Any]) -> float:
        call()
        return self.costs[self.ran[-1].rows]


def chosen(clock: Clock, gpu: str | None = "Some GPU", key: str = "op/1") -> Tile:
    return tuning.choose(key, TILES, clock.run, gpu, clock)


def test_without_a_gpu_or_a_wish_the_default_is_taken_and_nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    assert chosen(clock) == TILES[0]
    monkeypatch.setenv("ZFKERNELS_TUNE", "1")
    assert chosen(clock, gpu=None) == TILES[0]
    assert tuning.choose("op/1", TILES[:1], clock.run, "Some GPU", clock) == TILES[0]
    assert clock.ran == []
    assert not tuning.cache_file().exists()
    assert tuning.gpu_name(torch.device("cpu")) is None


def test_the_fastest_is_measured_once_and_kept_for_its_gpu(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setenv("ZFKERNELS_TUNE", "1")
    assert chosen(clock := Clock()) == TILES[1]
    assert clock.ran == TILES
    monkeypatch.delenv("ZFKERNELS_TUNE")
    assert chosen(clock := Clock()) == TILES[1]
    assert clock.ran == []
    assert chosen(clock, gpu="Another ../GPU") == chosen(clock, key="op/2") == TILES[0]
    monkeypatch.setenv("ZFKERNELS_TUNE", "1")
    assert chosen(Clock({64: 1.0, 128: 2.0, 32: 3.0}), gpu="Another ../GPU") == TILES[0]
    assert json.loads((folder / "tiles.json").read_text()) == {
        "Some GPU": {"op/1": {"rows": 128, "taps": [3, 3]}}, "Another ../GPU": {"op/1": {"rows": 64, "taps": [1, 1]}},
    }  # fmt: skip
    assert [path.name for path in folder.iterdir()] == ["tiles.json"]


def test_a_tile_that_is_no_longer_a_candidate_is_not_used() -> None:
    tuning.keep(tuning.cache_file(), "Some GPU", "op/1", Tile(7))
    assert chosen(Clock()) == TILES[0]


@pytest.mark.parametrize("content", ["{", "", "[1]"])
def test_a_damaged_file_is_said_and_replaced(monkeypatch: pytest.MonkeyPatch, folder: Path, content: str) -> None:
    folder.mkdir()
    (folder / "tiles.json").write_text(content)
    with pytest.warns(UserWarning, match="tuning: expected JSON"):
        assert chosen(Clock()) == TILES[0]
    monkeypatch.setenv("ZFKERNELS_TUNE", "1")
    with pytest.warns(UserWarning, match="tuning: expected JSON"):
        assert chosen(Clock()) == TILES[1]
    assert chosen(Clock({64: 0.0, 128: 1.0, 32: 1.0})) == TILES[1]


def test_a_reader_never_sees_a_part_of_the_file(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    tuning.keep(tuning.cache_file(), "Some GPU", "op/1", TILES[2])

    def die(*args: object, **options: object) -> None:
        args[1].write('{"Some')  # type: ignore[attr-defined]
        raise KeyboardInterrupt

    monkeypatch.setattr(tuning.json, "dump", die)
    with pytest.raises(KeyboardInterrupt):
        tuning.keep(tuning.cache_file(), "Some GPU", "op/1", TILES[1])
    monkeypatch.undo()
    assert tuning.winners(folder / "tiles.json") == {"Some GPU": {"op/1": {"rows": 32, "taps": [1, 1]}}}
    assert [path.name for path in folder.iterdir()] == ["tiles.json"]  # nothing half-written stays


def test_a_tile_that_does_not_fit_is_left_out(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    errors = pytest.importorskip("triton.runtime.errors")
    monkeypatch.setenv("ZFKERNELS_TUNE", "1")

    class Tight(Clock):
        def run(self, tile: Tile) -> None:
            super().run(tile)
            if tile.rows > limit:
                raise errors.OutOfResources(tile.rows, limit, "shared memory")

    limit = 64
    assert chosen(clock := Tight()) == TILES[2]
    assert clock.ran == TILES
    assert json.loads((folder / "tiles.json").read_text())["Some GPU"]["op/1"]["rows"] == 32
    limit = 8
    with pytest.raises(errors.OutOfResources):
        chosen(Tight(), key="op/2")
    assert "op/2" not in json.loads((folder / "tiles.json").read_text())["Some GPU"]


def test_nothing_is_measured_while_a_graph_is_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    clock = Clock()
    assert chosen(clock) == TILES[0]  # nothing is to be measured
    monkeypatch.setenv("ZFKERNELS_TUNE", "1")
    with pytest.raises(RuntimeError, match=r"^tuning: expected no CUDA graph to be captured .* got op/1;"):
        chosen(clock)
    assert clock.ran == []
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    assert chosen(clock) == TILES[1]
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    assert chosen(Clock()) == TILES[1]  # is known


KEEPER = """
import sys
from dataclasses import make_dataclass
from pathlib import Path
from zfkernels import tuning
Tile = make_dataclass("Tile", [("rows", int)])
print("ready", flush=True)
sys.stdin.readline()
for number in range(40):
    tuning.keep(Path(sys.argv[1]), "Some GPU", f"{sys.argv[2]}/{number}", Tile(number))
"""


def test_two_processes_that_keep_winners_at_once_lose_none(folder: Path) -> None:
    command = [sys.executable, "-c", KEEPER, str(folder / "tiles.json")]
    both = [
        subprocess.Popen([*command, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for name in "ab"
    ]
    for process in both:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in both:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    assert [process.wait(timeout=120) for process in both] == [0, 0]
    kept = tuning.winners(folder / "tiles.json")["Some GPU"]
    assert kept == {f"{name}/{number}": {"rows": number} for name in "ab" for number in range(40)}
    assert [path.name for path in folder.iterdir()] == ["tiles.json"]

"""Runs that are killed, or whose disk fills, at a step of theirs: at every one where ZFKERNELS_INTERRUPT says so."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
EVERY = 1 if os.environ.get("ZFKERNELS_INTERRUPT") == "every" else None
MEMORY = Path("/dev/shm")


def interrupt(photos: Path, folder: Path, what: str, ending: str, *options: str) -> dict:
    command = [sys.executable, str(HERE / "interrupted.py"), what, str(photos), str(folder), "--ending", ending]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path]), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [*command, *options], capture_output=True, text=True, timeout=None if EVERY else 540, env=environment
    )
    assert result.returncode == 0, result.stderr
    print(result.stdout)
    return json.loads(result.stdout)


@pytest.mark.parametrize(
    ("what", "ending", "every", "publishing"),
    [
        ("gallery", "kill", 61, 12),
        ("gallery", "full", 101, 20),
        ("fresh", "kill", 100, 60),
        ("project", "kill", 10, 15),
        ("sweeps", "kill", 13, 9),
        ("sweeps", "full", 29, 17),
    ],
)
def test_whatever_step_a_run_is_cut_off_at_the_same_command_gives_the_same_bytes(
    photos: Path, tmp_path: Path, what: str, ending: str, every: int, publishing: int
) -> None:
    options = {"--every": every, "--publishing": publishing} if EVERY is None else {}
    found = interrupt(photos, tmp_path, what, ending, *(str(part) for pair in options.items() for part in pair))
    assert found["wrong"] == []
    assert found["ended"].get({"kill": "None", "full": "1"}[ending], 0) >= found["tried"] - 2


@pytest.mark.skipif(EVERY is None or not MEMORY.is_dir(), reason="part of the long form (ZFKERNELS_INTERRUPT=every)")
@pytest.mark.parametrize("ending", ["kill", "full"])
def test_the_same_in_memory(photos: Path, tmp_path_factory: pytest.TempPathFactory, ending: str) -> None:
    import tempfile

    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        assert interrupt(photos, Path(folder), "gallery", ending, "--every", "1")["wrong"] == []

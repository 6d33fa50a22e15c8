"""Runs that were interrupted: killed, out of disk, or taken up with something else."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock
from interrupted import contents
from PIL import Image
from small import LAYERS, OPTIONS, other_network, small_network

from zfkernels.gallery import Gallery, build_gallery, checkpoint, draw, workplace
from zfkernels.gallery.checkpoint import Progress
from zfkernels.output import folder

HERE = Path(__file__).parent


class PowerCut(RuntimeError):
    pass


def test_a_crash_in_the_second_pass_does_not_lose_the_first(
    gallery: Gallery, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(*_: object) -> None:
        raise PowerCut

    with monkeypatch.context() as patch:
        patch.setattr(draw.Studio, "draw", cut)
        with pytest.raises(PowerCut):
            build_gallery(small_network(), photos, out=tmp_path, **OPTIONS)
    events: list[dict] = []
    other = build_gallery(small_network(), photos, out=tmp_path, **{**OPTIONS, "progress": events.append})
    assert other.table.equals(gallery.table)
    assert [event["stage"] for event in events if event["event"] == "stage"] == ["project", "write"]


def test_a_finished_run_is_opened(photos: Path, tmp_path: Path) -> None:
    build_gallery(small_network(), photos, out=tmp_path, **OPTIONS)
    before = contents(tmp_path)
    events: list[dict] = []
    build_gallery(small_network(), photos, out=tmp_path, **{**OPTIONS, "progress": events.append})
    assert events == []
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("finished", "change", "message"),
    [
        (True, {"top_k": 3}, "options.top_k: 4 before, 3 now"),
        (False, {"layers": LAYERS[:2]}, r"options.layers: \[.*\"4\"\] before, \[.*\"1\"\] now"),
        (False, {"model": other_network}, "model.weights_sha256: "),
        (True, {"model": lambda: torch.nn.Sequential(*small_network(), torch.nn.ReLU()).eval()}, "model.steps_sha256"),
        (False, {"data": "a changed photo"}, "data.sha256: "),
        (True, {"data": "a new photo"}, "data.images: 14 before, 15 now"),
    ],
)
def test_another_run_is_refused_and_fresh_starts_anew(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, finished: bool, change: dict, message: str
) -> None:
    copy = tmp_path / "photos"
    subprocess.run(["cp", "-r", str(photos), str(copy)], check=True)
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        if not finished:
            patch.setattr(draw.Studio, "draw", lambda *_: (_ for _ in ()).throw(PowerCut))
            with pytest.raises(PowerCut):
                build_gallery(small_network(), copy, out=out, **OPTIONS)
        else:
            build_gallery(small_network(), copy, out=out, **OPTIONS)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    options = {**OPTIONS, **change}
    model = options.pop("model", small_network)()
    if (data := options.pop("data", None)) is not None:
        path = copy / "cats" / ("01.png" if "changed" in data else "new.png")
        Image.fromarray(np.full((25, 25, 3), 7, np.uint8)).save(path)
    with pytest.raises(ValueError, match=f"build_gallery: expected out without another run.*{message}") as caught:
        build_gallery(model, copy, out=out, **options)
    assert "\n" not in str(caught.value)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    gallery = build_gallery(model, copy, out=out, **options, resume=False)
    assert gallery.info["run"]["options"]["top_k"] == options["top_k"]


def test_a_lock_that_the_workers_of_a_killed_run_still_hold_is_waited_for(tmp_path: Path) -> None:
    (tmp_path / ".zfkernels").mkdir()
    lock = FileLock(tmp_path / ".zfkernels" / "lock", thread_local=False).acquire().lock
    threading.Timer(0.5, lock.release).start()
    with workplace.workplace(tmp_path) as place:
        assert place.out == tmp_path


def test_two_runs_in_one_folder(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "PATIENCE", 0.1)
    (tmp_path / ".zfkernels").mkdir()
    with (
        FileLock(tmp_path / ".zfkernels" / "lock"),
        pytest.raises(OSError, match="build_gallery: expected out in which no other run works, got"),
    ):
        build_gallery(small_network(), photos, out=tmp_path, **OPTIONS)
    build_gallery(small_network(), photos, out=tmp_path, **OPTIONS)


@pytest.mark.parametrize("write", [1, 3, 6])
def test_a_full_disk_is_one_sentence_and_can_be_gone_on_from(
    gallery: Gallery, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: int
) -> None:
    monkeypatch.setattr(checkpoint, "SECONDS", 0)
    options = {**OPTIONS, "batch_size": 3}
    fsync, left = os.fsync, write

    def full(handle: int) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="is full; what is done is kept, and the same call goes on") as caught:
            build_gallery(small_network(), photos, out=tmp_path, **options)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.rglob(".*.zfkernels.*"))
    assert build_gallery(small_network(), photos, out=tmp_path, **options).table.equals(gallery.table)


def test_a_checkpoint_that_is_damaged_or_of_another_run_or_process_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sweep-000.checkpoint"
    progress = Progress()
    progress.finish(3)
    progress.notes[7] = "broken"
    progress.save(path, "this run")
    again = Progress.load(path, "this run")
    assert [again.has(n) for n in range(6)] == [False, False, False, True, False, False]
    assert again.notes == {7: "broken"}
    with pytest.raises(ValueError, match="expected each batch once, got batch 3 twice"):
        again.finish(3)
    refused = pytest.raises(ValueError, match=r"expected a whole checkpoint of this run, got .*sweep-00.*--fresh")
    with refused:
        Progress.load(path, "another run")
    copy = tmp_path / "sweep-001.checkpoint"
    copy.write_bytes(path.read_bytes())
    with refused:
        Progress.load(copy, "this run")
    path.write_bytes(path.read_bytes()[:-9])
    with refused:
        Progress.load(path, "this run")


def test_images_that_change_between_the_passes(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Shifting:
        """A data set that gives other images when it is walked through again."""

        walks = 0

        def __iter__(self):
            self.walks += 1
            generator = torch.Generator().manual_seed(0 if self.walks < 3 else 1)
            return iter([torch.rand(3, 20, 20, generator=generator) for _ in range(6)])

    with pytest.raises(RuntimeError, match=r"0 changed during the run: an activation of .* is now"):
        build_gallery(small_network(), Shifting(), out=tmp_path, **OPTIONS)


def test_torchrun_shares_the_work(photos: Path, tmp_path: Path) -> None:
    alone = build_gallery(small_network(), photos, out=tmp_path / "alone", **{**OPTIONS, "batch_size": 2})
    script = tmp_path / "ranks.py"
    script.write_text(
        "import sys\nfrom small import OPTIONS, small_network\nfrom zfkernels.gallery import build_gallery\n"
        "build_gallery(small_network(), sys.argv[1], out=sys.argv[2], **{**OPTIONS, 'batch_size': 2})\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path]), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [*command, str(photos), str(tmp_path / "out")], capture_output=True, text=True, timeout=540, env=environment
    )
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "out" / "topk.parquet").read_bytes() == (alone.path / "topk.parquet").read_bytes()
    assert (tmp_path / "out" / "maps.parquet").read_bytes() == (alone.path / "maps.parquet").read_bytes()

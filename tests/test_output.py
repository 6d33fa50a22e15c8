"""Folders of results: what is not ours stays, results are whole or not there, what was cut off is finished."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from zfkernels.output import check_out, claim, local_paths, replacing, staged, to_json
from zfkernels.output import folder as places
from zfkernels.output.manifest import Manifest

NAMES = ("figures", "record.json")


def contents(folder: Path) -> dict[str, str]:
    """Text of every visible file."""
    files = [path for path in folder.rglob("*") if path.is_file() and places.HOME not in path.parts]
    return {path.relative_to(folder).as_posix(): path.read_text() for path in files}


def write(out: Path, text: str) -> None:
    with staged(out, NAMES, "draw") as folder:
        (folder / "figures").mkdir()
        (folder / "figures" / f"{text}.txt").write_text(text)
        (folder / "record.json").write_text(text)
        (folder / "discarded").write_text(text)


def test_results_replace_those_of_an_earlier_run_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    write(tmp_path, "one")
    write(tmp_path, "two")
    assert contents(tmp_path) == {"mine.txt": "mine", "figures/two.txt": "two", "record.json": "two"}
    assert {path.name for path in (tmp_path / places.HOME).iterdir()} == {"lock", "manifest.json"}


def add(folder: Path) -> None:
    (folder / "figures" / "mine.txt").write_text("mine")


def put_a_link(folder: Path) -> None:
    (folder / "record.json").unlink()
    (folder / "record.json").symlink_to(folder / "mine.txt")


def put_a_folder(folder: Path) -> None:
    (folder / "record.json").unlink()
    (folder / "record.json").mkdir()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (add, "figures/mine.txt"),
        (put_a_link, "record.json"),
        (put_a_folder, "record.json"),
        (lambda folder: (folder / "figures" / "one.txt").write_text("mine now"), "figures/one.txt"),
        (lambda folder: (folder / "figures" / "link").symlink_to(folder), "figures/link"),
    ],
)
def test_what_was_put_among_the_results_is_not_ours(tmp_path: Path, change, named: str) -> None:
    write(tmp_path, "one")
    (tmp_path / "mine.txt").write_text("mine")
    change(tmp_path)
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=f"draw: expected out without a file or folder .* with {named} "):
        write(tmp_path, "two")
    assert contents(tmp_path) == before


@pytest.mark.parametrize("name", NAMES)
def test_an_entry_of_a_results_name_is_refused_before_the_block(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(ValueError, match=f"with {name} "), staged(tmp_path, NAMES, "draw"):
        pytest.fail("it began")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_what_is_put_there_while_a_run_works_stays(tmp_path: Path) -> None:
    def meanwhile() -> None:
        with staged(tmp_path, NAMES, "draw") as folder:
            (folder / "figures").mkdir()
            (folder / "record.json").write_text("ours")
            (tmp_path / "record.json").write_text("mine")

    with pytest.raises(ValueError, match=r"with record\.json "):
        meanwhile()
    assert contents(tmp_path) == {"record.json": "mine"}


def test_an_error_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with staged(tmp_path / "a" / "b", NAMES, "draw") as folder:
            (folder / "record.json").write_text("ours")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_run_left_is_removed_by_the_next(tmp_path: Path) -> None:
    write(tmp_path, "one")
    left = tmp_path / places.HOME / f"{places.NEW}left"
    left.mkdir()
    write(tmp_path, "two")
    assert not left.exists()


class Cut(RuntimeError):
    pass


@pytest.mark.parametrize("moves", range(1, 6))
def test_moves_that_were_cut_off_are_finished_by_the_next_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moves: int
) -> None:
    write(tmp_path, "one")
    rename, left = os.rename, moves

    def cut(source: Path, target: Path) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise Cut
        rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", cut)
        with pytest.raises(Cut):
            write(tmp_path, "two")
    with pytest.raises(KeyError), staged(tmp_path, ("other",), "look"):
        raise KeyError
    assert contents(tmp_path) == {"figures/two.txt": "two", "record.json": "two"}
    assert Manifest.load(tmp_path / places.HOME).publishing is None


def test_moves_are_not_finished_over_what_was_put_there_since(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut(*_: object) -> None:
        raise Cut

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", cut)
        with pytest.raises(Cut):
            write(tmp_path, "one")
    (tmp_path / "record.json").write_text("mine")
    with pytest.raises(ValueError, match=r"with record\.json "):
        write(tmp_path, "two")
    assert contents(tmp_path) == {"record.json": "mine"}
    (tmp_path / "record.json").unlink()
    write(tmp_path, "two")
    assert contents(tmp_path) == {"figures/two.txt": "two", "record.json": "two"}


def test_a_damaged_manifest_is_refused_and_nothing_is_touched(tmp_path: Path) -> None:
    write(tmp_path, "one")
    path = tmp_path / places.HOME / "manifest.json"
    whole, before = path.read_text(), contents(tmp_path)
    hostile = json.loads(whole)
    hostile["entries"]["../elsewhere"] = 1
    for text in ("null", "{}", whole[:-2], whole.replace("record.json", "recorded.json"), json.dumps(hostile)):
        path.write_text(text)
        with pytest.raises(ValueError, match="expected a whole manifest of the results, got"):
            write(tmp_path, "two")
        assert contents(tmp_path) == before


def test_a_claim_covers_what_a_run_writes_to_all_the_time(tmp_path: Path) -> None:
    claim(tmp_path, ("log",), "train")
    (tmp_path / "log").write_text("one")
    claim(tmp_path, ("log",), "train")
    (tmp_path / "weights").write_text("mine")
    with pytest.raises(ValueError, match="with weights "):
        claim(tmp_path, ("log", "weights"), "train")
    claim(tmp_path, ("log", "weights"), "train", known=True)


def test_out_is_apart_from_the_data(tmp_path: Path) -> None:
    data = tmp_path / "photos" / "cats"
    data.mkdir(parents=True)
    (data / "a.png").write_text("")
    (tmp_path / "link").symlink_to(data)
    for out, relation in [
        (data, "is"), (tmp_path / "link", "is"), (tmp_path / "photos", "holds"), (tmp_path, "holds"),
        (data / "out" / "deep", "lies in"), (tmp_path / "link" / "out", "lies in"),
        (data / ".." / "cats" / "x", "lies in"),
    ]:  # fmt: skip
        with pytest.raises(ValueError, match=f"draw: expected out a folder apart from the data, .* which {relation} "):
            check_out("draw", out, [data])
    for out in (tmp_path / "photos" / "out", tmp_path / "out", tmp_path / "photos" / "cats-out"):
        assert check_out("draw", out, [data]) == out
    with pytest.raises(ValueError, match="which holds"):
        check_out("draw", data, [data / "a.png"])
    with pytest.raises(ValueError, match="which holds"):
        check_out("draw", data, local_paths(f"{data}/shards-{{00..12}}.tar"))
    with pytest.raises(ValueError, match="expected out the name of a folder, got ''"):
        check_out("draw", "", [])
    assert local_paths("embedded") == local_paths("s3://bucket/photos") == local_paths(7) == []


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "map.svg"
    path.write_text("old")

    def fill() -> None:
        with replacing(path) as temporary:
            assert temporary.suffix == ".svg"
            temporary.write_text("half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError, match="No space"):
        fill()
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("map.svg", "old")]


def test_nan_in_a_record_is_named() -> None:
    assert to_json({"a": [1, 2.5]}) == '{"a": [1, 2.5]}'
    with pytest.raises(ValueError, match=r"expected finite numbers .*, got nan in results\[1\]\.kept"):
        to_json({"results": [1.0, {"kept": float("nan")}]})
